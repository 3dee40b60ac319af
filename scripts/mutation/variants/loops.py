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
    fresh,
    loops_by_kind,
    result,
    running,
    scheduling,
)


def _vectorize(schedule: Schedule, block: Any, width: int) -> None:
    spatial, reduced = loops_by_kind(schedule, block)
    _, inner = schedule.split(running(schedule, spatial)[-1], [None, width])
    if reduced:
        # A vector runs innermost, and its reduction around it.
        schedule.decompose_reduction(block, reduced[0])
        schedule.reorder(*reduced, inner)
    schedule.vectorize(inner)


def _unroll(schedule: Schedule, block: Any, width: int) -> None:
    spatial, _ = loops_by_kind(schedule, block)
    _, inner = schedule.split(running(schedule, spatial)[-1], [None, width])
    schedule.unroll(inner)


def _parallelize(schedule: Schedule, block: Any, _: int) -> None:
    spatial, _reduced = loops_by_kind(schedule, block)
    if not spatial:
        raise NotApplicableError("it has no spatial loop")
    schedule.parallel(spatial[0])


def _tile(schedule: Schedule, block: Any, width: int) -> None:
    spatial, reduced = loops_by_kind(schedule, block)
    two = running(schedule, spatial)[-2:]
    if len(two) < 2:
        raise NotApplicableError("it has one axis")
    pairs = [schedule.split(loop, [None, width]) for loop in two]
    outer, inner = zip(*pairs, strict=True)
    schedule.reorder(*outer, *reduced, *inner)


def _fuse(schedule: Schedule, block: Any, _: int) -> None:
    spatial, _reduced = loops_by_kind(schedule, block)
    if len(spatial) < 2:
        raise NotApplicableError("it has one loop")
    schedule.fuse(*spatial)


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
    "vectorized": scheduling("vectors of {width}", _vectorize),
    "unrolled": scheduling("unrolled by {width}", _unroll),
    "parallel": scheduling("parallel", _parallelize),
    "tiled": scheduling("tiles of {width} x {width}", _tile),
    "fused loops": scheduling("one loop", _fuse),
    "inlined": _inlined,
}
