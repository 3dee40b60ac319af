"""Whether a scheduled kernel keeps the limits that its target states."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx
from tvm_ffi import structural_walk

from relax_tapml.errors import LoweringError


def check_limits(module: Any, target: Any) -> None:
    """Refuse kernels that store outside of threads, or bind more to a block than the target has.

    Drivers refuse too many only when they are launched, and some run nothing and say nothing. What
    is outside of threads runs on the CPU, which would take the GPU's addresses for its own.

    Parameters
    ----------
    module
        PrimFuncs bound to threads, as ``schedule`` returns them.
    target
        The ``tvm.target.Target``, whose ``max_num_threads`` or ``max_threads_per_block`` counts.

    Raises
    ------
    LoweringError
        Names the PrimFunc, what it needs and what there is.
    """
    limit = target.attrs.get("max_threads_per_block", target.attrs.get("max_num_threads"))
    for name, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        launches = _launches(function.body)
        if _stores(function.body) - {store for launch in launches for store in _stores(launch)}:
            raise LoweringError(
                f"kernel {name.name_hint} stores without binding threads: it is scheduled for a "
                f"CPU. Give the device pipeline one for {target.kind.name}"
            )
        for extents in map(_threads, launches):
            threads = math.prod(extents.values())
            if limit is not None and threads > int(limit):
                told = " x ".join(f"{axis} {extent}" for axis, extent in sorted(extents.items()))
                raise LoweringError(
                    f"kernel {name.name_hint} binds {threads} threads to a block ({told}); "
                    f"{target.kind.name} allows {limit}. Schedule it with fewer"
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


def _threads(launch: Any) -> dict[str, int]:
    """Return the extents of a launch's ``threadIdx`` axes, those that are constant."""
    extents: dict[str, int] = {}

    def visit(node: Any) -> None:
        axis = _axis(node)
        if axis is not None and axis[0].startswith("threadIdx"):
            extent = int(axis[1].value) if isinstance(axis[1], tirx.IntImm) else 1
            extents[axis[0]] = max(extents.get(axis[0], 1), extent)

    structural_walk(launch, (tirx.Stmt, visit), order="pre")
    return extents


def _stores(body: Any) -> set[Any]:
    stores: set[Any] = set()
    structural_walk(body, (tirx.BufferStore, stores.add), order="pre")
    return stores


def _axis(node: Any) -> tuple[str, Any] | None:
    """Return thread axis and extent that a statement binds; None if it binds none."""
    if isinstance(node, tirx.For) and node.kind == tirx.ForKind.THREAD_BINDING:
        return str(node.thread_binding.thread_tag), node.extent
    if isinstance(node, tirx.AttrStmt) and node.attr_key == "thread_extent":
        return str(node.node.thread_tag), node.value
    return None
