"""Whether a scheduled kernel keeps the limits that its target states."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx
from tvm_ffi import structural_walk

from relax_tapml.errors import LoweringError


def check_limits(module: Any, target: Any) -> None:
    """Refuse kernels that bind no threads, or more to a block than the target has.

    Drivers refuse too many only when they are launched, and some run nothing and say nothing. A
    kernel without threads is one for a CPU, which would take the GPU's addresses for its own.

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
        if not launches:
            raise LoweringError(
                f"kernel {name.name_hint} binds no threads: it is scheduled for a CPU. Give the "
                f"device pipeline one for {target.kind.name}"
            )
        for extents in launches:
            threads = math.prod(extents.values())
            if limit is not None and threads > int(limit):
                told = " x ".join(f"{axis} {extent}" for axis, extent in sorted(extents.items()))
                raise LoweringError(
                    f"kernel {name.name_hint} binds {threads} threads to a block ({told}); "
                    f"{target.kind.name} allows {limit}. Schedule it with fewer"
                )


def _launches(body: Any) -> list[dict[str, int]]:
    """Return the extents of ``threadIdx`` axes of each launch: an outermost thread-bound loop."""
    launches: list[dict[str, int]] = []
    covered: set[Any] = set()

    def launch(node: Any) -> None:
        if _axis(node) is None or node in covered:
            return
        extents: dict[str, int] = {}

        def bind(inner: Any) -> None:
            axis = _axis(inner)
            if axis is not None:
                covered.add(inner)
                if axis[0].startswith("threadIdx"):
                    extents[axis[0]] = max(extents.get(axis[0], 1), axis[1])

        structural_walk(node, (tirx.Stmt, bind), order="pre")
        launches.append(extents)

    structural_walk(body, (tirx.Stmt, launch), order="pre")
    return launches


def _axis(node: Any) -> tuple[str, int] | None:
    """Return thread axis and extent that a statement binds; None if none, or not constant."""
    if isinstance(node, tirx.For) and node.kind == tirx.ForKind.THREAD_BINDING:
        tag, extent = node.thread_binding.thread_tag, node.extent
    elif isinstance(node, tirx.AttrStmt) and node.attr_key == "thread_extent":
        tag, extent = node.node.thread_tag, node.value
    else:
        return None
    return (str(tag), int(extent.value)) if isinstance(extent, tirx.IntImm) else None
