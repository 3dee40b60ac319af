"""The schedule of a PrimFunc on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relax_tapml._compat import SBlock, SBlockRealize
from relax_tapml.cpu_schedule._groups import Group, groups_of
from relax_tapml.cpu_schedule._loops import sequence
from relax_tapml.cpu_schedule._nests import Kernel, read_kernel
from relax_tapml.cpu_schedule._parallel import parallel
from relax_tapml.cpu_schedule._register_tile import register_tile
from relax_tapml.cpu_schedule._registers import registers_of
from relax_tapml.cpu_schedule._rows import rows
from relax_tapml.cpu_schedule._side_by_side import can_be_side_by_side, side_by_side
from relax_tapml.cpu_schedule._transpose import transpose, transposed_axis

RULES_VERSION = 1
"""Rises with every change of what the rules write, so that kernels in caches are built again."""

LEAST_ITERATIONS = 1 << 18
"""Kernels with fewer iterations stay as they are.

They run for less than a millisecond, about as long as it takes to write a schedule.
"""


def schedule_for_cpu(
    function: Any, target: Any, *, least_iterations: int = LEAST_ITERATIONS
) -> Any:
    """Return a PrimFunc with a schedule for a CPU, or the same object.

    What it computes stays bit for bit the same: each element is computed by the same operations in
    the same order, sums included. (LLVM may contract a product and a sum to one instruction with
    one rounding, with a schedule as without. A reduction over a symbolic dimension of 0 gets its
    initial value, where TVM leaves the result unwritten.)

    Parameters
    ----------
    function
        The PrimFunc, as Relax's passes lower it; any dtype, also with symbolic dimensions.
    target
        The ``tvm.target.Target`` of the CPU, whose vector registers decide the size of tiles.
    least_iterations
        How often the bodies of its loops must run, symbolic dimensions being 64.

    Returns
    -------
    PrimFunc
        Marked ``tirx.is_scheduled``. The same object if it runs shorter than that, is scheduled
        already, or is not of the form that the rules understand; see ``read_kernel``.
    """
    kernel = read_kernel(function)
    if kernel is None or kernel.iterations < least_iterations:
        return function
    groups = groups_of(kernel, registers_of(target))
    inner = [_inner_buffers(kernel, group) for group in groups]
    # Fewer iterations take less time than to start the threads.
    least = least_iterations >> 4
    body = sequence(
        [_statement(kernel, group, own, least) for group, own in zip(groups, inner, strict=True)]
    )
    moved = {buffer for own in inner for buffer in own}
    moved |= {buffer for group in groups if group.producer for buffer in group.producer.written}
    kept = [buffer for buffer in kernel.root.alloc_buffers if buffer not in moved]
    root = SBlock([], [], [], "root", body, alloc_buffers=kept)
    scheduled = function.with_body(SBlockRealize([], True, root))
    return scheduled.with_attr("tirx.is_scheduled", True)


def _statement(kernel: Kernel, group: Group, inner: Sequence[Any], least: int) -> Any:
    nest = group.nests[0]
    is_parallel = sum(nest.iterations for nest in group.nests) >= least
    if len(group.nests) > 1:
        return rows(group, inner, is_parallel=is_parallel)
    if group.plan is not None:
        return register_tile(group.plan, group.producer, is_parallel=is_parallel)
    if (axis := transposed_axis(nest)) is not None:
        return transpose(nest, axis, is_parallel=is_parallel)
    if can_be_side_by_side(nest):
        return side_by_side(nest, kernel.root.alloc_buffers, is_parallel=is_parallel)
    return parallel(nest, is_parallel=is_parallel)


def _inner_buffers(kernel: Kernel, group: Group) -> list[Any]:
    """Return the buffers of a kernel that only this group of several nests uses."""
    if len(group.nests) == 1:
        return []
    others = [nest for nest in kernel.nests if nest not in group.nests]
    return [
        buffer
        for buffer in kernel.root.alloc_buffers
        if any(buffer in nest.touched for nest in group.nests)
        and not any(buffer in nest.touched for nest in others)
    ]
