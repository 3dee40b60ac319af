"""Check scheduled kernels against the limits of their target."""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import tirx
from tvm_ffi import structural_walk

from relax_tapml.errors import LoweringError
from relax_tapml.targets.toolchain._shared_memory import has_shared_memory, shared_memory

# Limits of a launch on all NVIDIA GPUs, for which targets have no attributes (CUDA Programming
# Guide, "Technical Specifications per Compute Capability").
_AXES = {"cuda": {"threadIdx.z": 64, "blockIdx.y": 65535, "blockIdx.z": 65535}}
# Of shared memory declared in a kernel; more must be requested at its launch.
_DECLARED = {"cuda": 48 * 1024}
# The attributes of a target that say how many threads a block may have.
_THREADS = ("max_threads_per_block", "max_num_threads")


def check_limits(module: Any, target: Any) -> None:
    """Refuse kernels that store outside of threads, or need more than the target has.

    Drivers refuse such a kernel only when it is launched, and some skip it without an error. Code
    outside of threads runs on the CPU, which cannot use the GPU's addresses.

    Parameters
    ----------
    module
        PrimFuncs bound to threads, as ``schedule`` returns them or as a pipeline has scheduled
        them.
    target
        The ``tvm.target.Target``. Its ``max_threads_per_block`` or ``max_num_threads`` counts, the
        one that is stated, and its ``max_shared_memory_per_block``.

    Raises
    ------
    LoweringError
        Names the PrimFunc, what it needs and the limit.
    """
    for name, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc):
            _check_threads(name.name_hint, function, target)
            if has_shared_memory(function):
                _check_shared_memory(name.name_hint, function, target)


def _check_threads(name: str, function: Any, target: Any) -> None:
    limit = _most_threads(target)
    axes = _AXES.get(target.kind.name, {})
    launches = _launches(function.body)
    if _stores(function.body) - {store for launch in launches for store in _stores(launch)}:
        raise LoweringError(
            f"kernel {name} stores without binding threads: it is scheduled for a CPU. Give the "
            f"device pipeline one for {target.kind.name}"
        )
    for extents in map(_extents, launches):
        of_block = {axis: n for axis, n in extents.items() if axis.startswith("threadIdx")}
        threads = math.prod(of_block.values())
        if limit is not None and threads > limit:
            block = " x ".join(f"{axis} {extent}" for axis, extent in sorted(of_block.items()))
            raise LoweringError(
                f"kernel {name} binds {threads} threads to a block ({block}); {target.kind.name} "
                f"allows {limit}. Schedule it with fewer"
            )
        for axis, most in axes.items():
            if extents.get(axis, 1) > most:
                raise LoweringError(
                    f"kernel {name} binds {extents[axis]} to {axis}; {target.kind.name} allows "
                    f"{most}. Bind it to another axis, or split it"
                )


def _most_threads(target: Any) -> int | None:
    """Return how many threads a block may have; None where the target does not say.

    It has two numbers for that. Where they differ, what was stated counts, not the kind's default.
    """
    found = {name: int(target.attrs[name]) for name in _THREADS if name in target.attrs}
    if len(set(found.values())) > 1:
        usual = tvm.target.Target(target.kind.name).attrs
        found = {n: most for n, most in found.items() if most != usual.get(n)} or found
    return min(found.values(), default=None)


def _check_shared_memory(name: str, function: Any, target: Any) -> None:
    kind = target.kind.name
    stated = target.attrs.get("max_shared_memory_per_block")
    for kernel, used in shared_memory(name, function, target).items():
        limits = []
        if stated is not None and kind not in _DECLARED:
            limits.append((used.declared + used.at_launch, int(stated)))
        if kind in _DECLARED:
            limits.append((used.declared, _DECLARED[kind]))
        for needed, most in limits:
            if needed > most:
                raise LoweringError(
                    f"kernel {kernel} needs {needed} bytes of shared memory in a block; {kind} "
                    f"allows {most}. Schedule it with smaller tiles"
                )


def _launches(body: Any) -> list[Any]:
    """Return the outermost statements that bind a thread axis."""
    launches: list[Any] = []
    inner: set[Any] = set()

    def visit(node: Any) -> None:
        if _axis(node) is not None and node not in inner:
            launches.append(node)
            structural_walk(node, (tirx.Stmt, inner.add), order="pre")

    structural_walk(body, (tirx.Stmt, visit), order="pre")
    return launches


def _extents(launch: Any) -> dict[str, int]:
    """Return the extents of a launch's axes, those that are constant."""
    extents: dict[str, int] = {}

    def visit(node: Any) -> None:
        axis = _axis(node)
        if axis is not None:
            extent = int(axis[1].value) if isinstance(axis[1], tirx.IntImm) else 1
            extents[axis[0]] = max(extents.get(axis[0], 1), extent)

    structural_walk(launch, (tirx.Stmt, visit), order="pre")
    return extents


def _stores(body: Any) -> set[Any]:
    stores: set[Any] = set()
    structural_walk(body, (tirx.BufferStore, stores.add), order="pre")
    # A local buffer of the function that launches is not used by the GPU.
    return {store for store in stores if store.buffer.scope() != "local"}


def _axis(node: Any) -> tuple[str, Any] | None:
    """Return the axis of a grid or block and its extent that a statement binds; None for others."""
    axis: tuple[str, Any] | None = None
    if isinstance(node, tirx.For) and node.kind == tirx.ForKind.THREAD_BINDING:
        axis = str(node.thread_binding.thread_tag), node.extent
    elif isinstance(node, tirx.AttrStmt) and node.attr_key == "thread_extent":
        axis = str(node.node.thread_tag), node.value
    return axis if axis is not None and axis[0].startswith(("blockIdx", "threadIdx")) else None
