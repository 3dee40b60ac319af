"""Sums in several parts."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from mutation.variants.scheduling import (
    Made,
    Maker,
    NotApplicableError,
    extent,
    loops_by_kind,
    scheduled,
)

_PARTS = (2, 4, 8, 32)


def _only_reduction(schedule: Schedule, block: Any) -> Any:
    _, reduced = loops_by_kind(schedule, block)
    running = [loop for loop in reduced if extent(schedule, loop) != 1]
    if not running:
        raise NotApplicableError("it reduces nothing")
    return running[-1]


def _divisible(schedule: Schedule, block: Any, parts: int) -> Any:
    """Return the reduction loop, if it falls into parts of equal length.

    Otherwise TVM's ``rfactor`` does not initialise the parts that are never reached, and adds
    whatever is in their memory: such a variant is not correct.
    """
    loop = _only_reduction(schedule, block)
    count = extent(schedule, loop)
    if not count or count % parts:
        raise NotApplicableError(f"its extent is not a multiple of {parts}")
    return loop


def _partial(function: tirx.PrimFunc, seed: int) -> Made:
    del seed
    for parts in _PARTS:

        def strided(schedule: Schedule, block: Any, parts: int = parts) -> None:
            _, inner = schedule.split(_divisible(schedule, block, parts), [None, parts])
            schedule.rfactor(inner, 0)

        def blocked(schedule: Schedule, block: Any, parts: int = parts) -> None:
            outer, _ = schedule.split(_divisible(schedule, block, parts), [parts, None])
            schedule.rfactor(outer, 0)

        for name, made in scheduled(function, strided):
            yield f"{name}: {parts} partial sums, as vector lanes", made
        for name, made in scheduled(function, blocked):
            yield f"{name}: {parts} partial sums, as threads", made


def _pairwise(function: tirx.PrimFunc, seed: int) -> Made:
    """Sum halves of halves, as deep as the extent allows, up to 16 parts in a tree."""
    del seed

    def change(schedule: Schedule, block: Any) -> None:
        loop = _only_reduction(schedule, block)
        if extent(schedule, loop) % 16:
            raise NotApplicableError("its extent is not a multiple of 16")
        part = block
        for _ in range(4):
            outer, _ = schedule.split(_only_reduction(schedule, part), [2, None])
            part = schedule.rfactor(outer, 0)

    for name, made in scheduled(function, change):
        yield f"{name}: pairwise", made


def _decomposed(function: tirx.PrimFunc, seed: int) -> Made:
    del seed

    def change(schedule: Schedule, block: Any) -> None:
        _only_reduction(schedule, block)
        schedule.decompose_reduction(block, schedule.get_loops(block)[0])

    for name, made in scheduled(function, change):
        yield f"{name}: initialised before", made


MAKERS: dict[str, Maker] = {
    "partial sums": _partial,
    "pairwise sum": _pairwise,
    "decomposed": _decomposed,
}
