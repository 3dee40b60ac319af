"""What the families that use TVM's schedules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError
from tvm_ffi.serialization import from_json_graph_str, to_json_graph_str

Made = Iterator[tuple[str, tirx.PrimFunc]]
Maker = Callable[[tirx.PrimFunc, int], Made]
_ENTRY = "main"
_WIDTHS = (4, 8, 16)


def scheduled(function: tirx.PrimFunc, change: Callable[[Schedule, Any], None]) -> Made:
    """Yield the function with ``change`` applied to each block where that is possible.

    Parameters
    ----------
    function
        Not changed.
    change
        Called with a fresh schedule and one of its blocks. If it raises ``ScheduleError`` or
        ``NotApplicableError``, the block is left out.
    """
    for name in _block_names(function):
        schedule = fresh(function)
        try:
            change(schedule, schedule.get_sblock(name, func_name=_ENTRY))
        except (ScheduleError, NotApplicableError):
            continue
        yield name, result(schedule, function)


def scheduling(what: str, change: Callable[[Schedule, Any, int], None]) -> Maker:
    """Return a maker that changes the schedule of each block where that is possible.

    Parameters
    ----------
    what
        For people; a width that the seed chooses may be part of it: ``unrolled by {width}``.
    change
        Gets a fresh schedule, one of its blocks and the width.
    """

    def make(function: tirx.PrimFunc, seed: int) -> Made:
        width = _WIDTHS[seed % len(_WIDTHS)]
        for name, made in scheduled(function, lambda one, block: change(one, block, width)):
            yield f"{name}: {what.format(width=width)}", made

    return make


class NotApplicableError(Exception):
    """A schedule makes no sense for a block."""


def fresh(function: tirx.PrimFunc) -> Schedule:
    """Return a schedule of a copy of the function."""
    return Schedule(alone(function))


def alone(function: tirx.PrimFunc) -> tvm.IRModule:
    """Return a module with a copy of the function.

    A TVM 0.27 schedule writes to the loops of the function that it is made from, also where others
    hold them, so nothing may be shared with the original.
    """
    copied = from_json_graph_str(to_json_graph_str(function))
    return tvm.IRModule({_ENTRY: copied.with_attr("global_symbol", _ENTRY)})


def result(schedule: Schedule, function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return the scheduled function with the attributes that ``function`` has."""
    changed = schedule.mod[_ENTRY]
    return tirx.PrimFunc(changed.params, changed.body, changed.ret_type, function.attrs)


def blocks(schedule: Schedule) -> list[Any]:
    """Return all blocks but the root, in program order."""
    root = schedule.get_sblock("root", func_name=_ENTRY)
    return list(schedule.get_child_blocks(root))


def loops_by_kind(schedule: Schedule, block: Any) -> tuple[list[Any], list[Any]]:
    """Return the spatial and the reduction loops of a block, outermost first.

    Raises
    ------
    NotApplicableError
        Its loops are not one for each of its variables.
    """
    values = schedule.get(block).iter_vars
    loops = schedule.get_loops(block)
    if len(loops) != len(values):
        raise NotApplicableError("it has loops that are not its own")
    kinds = [value.iter_type for value in values]
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _SPATIAL]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == _REDUCED]
    return spatial, reduced


def running(schedule: Schedule, loops: list[Any]) -> list[Any]:
    """Return the loops that run more than once.

    Raises
    ------
    NotApplicableError
        There is none.
    """
    found = [loop for loop in loops if extent(schedule, loop) != 1]
    if not found:
        raise NotApplicableError("no loop runs more than once")
    return found


def extent(schedule: Schedule, loop: Any) -> int:
    """Return how often a loop runs; 0 if that is not known."""
    found = schedule.get(loop).extent
    return int(found) if isinstance(found, tirx.IntImm) else 0


_SPATIAL = tirx.IterVar.DataPar
_REDUCED = tirx.IterVar.CommReduce


def _block_names(function: tirx.PrimFunc) -> list[str]:
    schedule = fresh(function)
    return [schedule.get(block).name_hint for block in blocks(schedule)]
