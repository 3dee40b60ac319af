"""One tile of a reduction, with its sums in vector registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml.cpu_schedule._loops import (
    loop,
    point,
    sequence,
    simplified,
    vector,
    wide,
    with_buffers,
)
from relax_tapml.cpu_schedule._nests import Axis, substituted
from relax_tapml.cpu_schedule._tile_plan import TilePlan


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Some terms of a sum, along one axis: ``count`` of them from ``begin``; int64."""

    axis: Axis
    begin: Any
    count: Any


def over_terms(terms: Sequence[Terms], body: Callable[[Mapping[Any, Any], Any], Any]) -> Any:
    """Return loops over terms; the body takes the axes' values and the number of the term."""

    def inside(left: Sequence[Terms], values: Mapping[Any, Any], number: Any) -> Any:
        if not left:
            return body(values, simplified(number))
        one, *others = left

        def at(value: Any) -> Any:
            place = simplified(one.begin + value).astype(one.axis.dtype)
            return inside(others, {**values, one.axis.var: place}, number * one.count + value)

        return loop(one.count, at, one.axis.var.name)

    return inside(terms, {}, tirx.IntImm("int64", 0))


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A tile of the result.

    Parameters
    ----------
    plan
        What is computed.
    known
        Values of the other spatial axes.
    begin
        The first value of the lanes' axis; int64.
    row
        The first row; int64. None if there is no axis of rows.
    """

    plan: TilePlan
    known: Mapping[Any, Any]
    begin: Any
    row: Any

    def statement(self, terms: Sequence[Terms], panel: Any = None, is_first: Any = None) -> Any:
        """Return the statements that add some terms.

        Parameters
        ----------
        terms
            What is added.
        panel
            The packed operand of these terms, ``lanes`` values for each; None to read the tensor.
        is_first
            Whether these are the first terms; otherwise the sums so far are in the result. None if
            they are all.
        """
        plan = self.plan
        sums = [plan.sums.buffer(plan.lanes, number) for number in range(plan.rows)]

        def add(at: Mapping[Any, Any], number: Any) -> Any:
            return sequence(
                [self._add(part, offset, at, number, panel) for offset, part in enumerate(sums)]
            )

        parts = [self._begin(part, offset, is_first) for offset, part in enumerate(sums)]
        parts.append(over_terms(terms, add))
        parts += [self._end(part, offset) for offset, part in enumerate(sums)]
        whole = with_buffers(sums, sequence(parts))
        if panel is None and plan.has_tail:  # Reads beyond the last lane may be out of bounds.
            return tirx.IfThenElse(self._is_full, whole, self._scalar())
        return whole

    @property
    def _is_full(self) -> Any:
        plan = self.plan
        return self.begin + plan.lanes <= wide(plan.lane.extent)

    def _values(self, offset: int, lane: Any) -> dict[Any, Any]:
        plan = self.plan
        values = {**self.known, plan.lane.var: (self.begin + lane).astype(plan.lane.dtype)}
        if plan.row is not None:
            row = self.row + offset
            if not _divides(plan.rows, plan.row):
                row = tirx.min(row, wide(plan.row.extent) - 1)
            values[plan.row.var] = simplified(row).astype(plan.row.dtype)
        return values

    def _begin(self, sums: Any, offset: int, is_first: Any) -> Any:
        nest = self.plan.nest
        initial = self._every_lane(
            sums, lambda lane: substituted(nest.init.value, self._values(offset, lane))
        )
        if is_first is None:
            return initial

        def load(lane: Any) -> Any:
            value = tirx.BufferLoad(nest.body.buffer, self._place(offset, lane))
            return self.plan.sums.store(sums, value, lane)

        return tirx.IfThenElse(is_first, initial, self._valid_lanes(load))

    def _add(self, sums: Any, offset: int, at: Mapping[Any, Any], number: Any, panel: Any) -> Any:
        plan = self.plan

        def value(lane: Any) -> Any:
            values = {**self._values(offset, lane), **at}
            values[plan.sum] = plan.sums.load(sums, lane)
            if panel is not None:
                values[plan.operand] = tirx.BufferLoad(panel, [number * plan.lanes + lane])
            return substituted(plan.template, values)

        return self._every_lane(sums, value)

    def _end(self, sums: Any, offset: int) -> Any:
        plan = self.plan

        def store(lane: Any) -> Any:
            value = plan.sums.load(sums, lane)
            return tirx.BufferStore(plan.nest.body.buffer, value, self._place(offset, lane))

        stored = self._valid_lanes(store)
        if plan.row is None or offset == 0 or _divides(plan.rows, plan.row):
            return stored
        return tirx.IfThenElse(self.row + offset < wide(plan.row.extent), stored, None)

    def _place(self, offset: int, lane: Any) -> list[Any]:
        values = self._values(offset, lane)
        return [substituted(index, values) for index in self.plan.nest.body.indices]

    def _every_lane(self, sums: Any, value: Callable[[Any], Any]) -> Any:
        return vector(self.plan.lanes, lambda lane: self.plan.sums.store(sums, value(lane), lane))

    def _valid_lanes(self, body: Callable[[Any], Any]) -> Any:
        every = vector(self.plan.lanes, body)
        if not self.plan.has_tail or self.plan.packed is None:
            return every
        left = simplified(wide(self.plan.lane.extent) - self.begin)
        return tirx.IfThenElse(self._is_full, every, loop(left, body, "lane"))

    def _scalar(self) -> Any:
        """Return the elements of a tile one by one."""
        plan = self.plan
        left = simplified(wide(plan.lane.extent) - self.begin)

        def element(lane: Any, row: Any) -> Any:
            values = {**self.known, plan.lane.var: (self.begin + lane).astype(plan.lane.dtype)}
            if plan.row is not None:
                values[plan.row.var] = (self.row + row).astype(plan.row.dtype)
            return point(plan.nest, values)

        if plan.row is None:
            return loop(left, lambda lane: element(lane, None), "lane")
        rows = tirx.min(tirx.IntImm("int64", plan.rows), wide(plan.row.extent) - self.row)
        return loop(
            simplified(rows),
            lambda row: loop(left, lambda lane: element(lane, row), "lane"),
            "row",
        )


def _divides(count: int, axis: Axis) -> bool:
    return axis.static is not None and axis.static % count == 0
