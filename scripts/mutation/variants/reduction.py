"""Sums in several parts."""

from __future__ import annotations

from functools import partial
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from mutation.variants.scheduling import (
    Made,
    Maker,
    NotApplicableError,
    extent,
    loops_by_kind,
    running,
    scheduled,
    scheduling,
)

_PARTS = (2, 4, 8, 32)


def _reduction_loop(schedule: Schedule, block: Any, parts: int) -> Any:
    """Return the innermost reduction loop, if it falls into parts of equal length.

    Otherwise TVM's ``rfactor`` does not initialise the parts that are never reached, and adds
    whatever is in their memory: such a variant is not correct.
    """
    loop = running(schedule, loops_by_kind(schedule, block)[1])[-1]
    count = extent(schedule, loop)
    if not count or count % parts:
        raise NotApplicableError(f"its extent is not a multiple of {parts}")
    return loop


def _lanes(schedule: Schedule, block: Any, parts: int) -> None:
    _, inner = schedule.split(_reduction_loop(schedule, block, parts), [None, parts])
    schedule.rfactor(inner, 0)


def _threads(schedule: Schedule, block: Any, parts: int) -> None:
    outer, _ = schedule.split(_reduction_loop(schedule, block, parts), [parts, None])
    schedule.rfactor(outer, 0)


def _partial(function: tirx.PrimFunc, _: int) -> Made:
    for parts in _PARTS:
        for how, change in (("vector lanes", _lanes), ("threads", _threads)):
            for name, made in scheduled(function, partial(change, parts=parts)):
                yield f"{name}: {parts} partial sums, as {how}", made


def _pairwise(schedule: Schedule, block: Any, _: int) -> None:
    """Sum halves of halves, as deep as the extent allows, up to 16 parts in a tree."""
    part = block
    for parts in (16, 8, 4, 2):
        outer, _inner = schedule.split(_reduction_loop(schedule, part, parts), [2, None])
        part = schedule.rfactor(outer, 0)


def _decompose(schedule: Schedule, block: Any, _: int) -> None:
    running(schedule, loops_by_kind(schedule, block)[1])
    schedule.decompose_reduction(block, schedule.get_loops(block)[0])


MAKERS: dict[str, Maker] = {
    "partial sums": _partial,
    "pairwise sum": scheduling("pairwise", _pairwise),
    "decomposed": scheduling("initialised before", _decompose),
}
