"""The same calculations in other loops: results are the same bit for bit."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from mutation.variants.scheduling import (
    Made,
    Maker,
    NotApplicableError,
    blocks,
    extent,
    fresh,
    loops_by_kind,
    result,
    scheduled,
)

_WIDTHS = (4, 8, 16)


def _innermost_spatial(schedule: Schedule, block: Any) -> Any:
    spatial, _ = loops_by_kind(schedule, block)
    running = [loop for loop in spatial if extent(schedule, loop) != 1]
    if not running:
        raise NotApplicableError("nothing runs")
    return running[-1]


def _vectorized(function: tirx.PrimFunc, seed: int) -> Made:
    width = _WIDTHS[seed % len(_WIDTHS)]

    def change(schedule: Schedule, block: Any) -> None:
        loop = _innermost_spatial(schedule, block)
        _, inner = schedule.split(loop, [None, width])
        _, reduced = loops_by_kind_of_rest(schedule, block)
        if reduced:
            # A vector runs innermost, and its reduction around it.
            schedule.decompose_reduction(block, reduced[0])
            schedule.reorder(*reduced, inner)
        schedule.vectorize(inner)

    for name, made in scheduled(function, change):
        yield f"{name}: vectors of {width}", made


def loops_by_kind_of_rest(schedule: Schedule, block: Any) -> tuple[list[Any], list[Any]]:
    """Return the loops around a block that was split: those before, and its reduction loops."""
    count = sum(v.iter_type == tirx.IterVar.CommReduce for v in schedule.get(block).iter_vars)
    loops = schedule.get_loops(block)
    return (loops[:-count], loops[-count:]) if count else (loops, [])


def _unrolled(function: tirx.PrimFunc, seed: int) -> Made:
    width = _WIDTHS[seed % len(_WIDTHS)]

    def change(schedule: Schedule, block: Any) -> None:
        _, inner = schedule.split(_innermost_spatial(schedule, block), [None, width])
        schedule.unroll(inner)

    for name, made in scheduled(function, change):
        yield f"{name}: unrolled by {width}", made


def _parallel(function: tirx.PrimFunc, seed: int) -> Made:
    del seed

    def change(schedule: Schedule, block: Any) -> None:
        spatial, _ = loops_by_kind(schedule, block)
        if not spatial:
            raise NotApplicableError("nothing runs")
        schedule.parallel(spatial[0])

    for name, made in scheduled(function, change):
        yield f"{name}: parallel", made


def _tiled(function: tirx.PrimFunc, seed: int) -> Made:
    width = _WIDTHS[(seed + 1) % len(_WIDTHS)]

    def change(schedule: Schedule, block: Any) -> None:
        spatial, reduced = loops_by_kind(schedule, block)
        running = [loop for loop in spatial if extent(schedule, loop) != 1][-2:]
        if len(running) < 2:
            raise NotApplicableError("it has one axis")
        pairs = [schedule.split(loop, [None, width]) for loop in running]
        outer, inner = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        schedule.reorder(*outer, *reduced, *inner)

    for name, made in scheduled(function, change):
        yield f"{name}: tiles of {width} x {width}", made


def _fused(function: tirx.PrimFunc, seed: int) -> Made:
    del seed

    def change(schedule: Schedule, block: Any) -> None:
        spatial, _ = loops_by_kind(schedule, block)
        if len(spatial) < 2:
            raise NotApplicableError("it has one loop")
        schedule.fuse(*spatial)

    for name, made in scheduled(function, change):
        yield f"{name}: one loop", made


def _inlined(function: tirx.PrimFunc, seed: int) -> Made:
    del seed
    schedule = fresh(function)
    count = 0
    for block in blocks(schedule):
        try:
            schedule.compute_inline(block)
            count += 1
        except ScheduleError:
            continue
    if count:
        yield f"{count} blocks inlined", result(schedule, function)


MAKERS: dict[str, Maker] = {
    "vectorized": _vectorized,
    "unrolled": _unrolled,
    "parallel": _parallel,
    "tiled": _tiled,
    "fused loops": _fused,
    "inlined": _inlined,
}
