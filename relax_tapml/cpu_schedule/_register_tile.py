"""The rule for matrix products, convolutions and sums of columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import tirx

from relax_tapml.cpu_schedule._loops import (
    ceildiv,
    fused,
    loop,
    nested,
    sequence,
    simplified,
    wide,
    with_buffers,
)
from relax_tapml.cpu_schedule._nests import Axis, Nest, substituted, uses
from relax_tapml.cpu_schedule._tile import Terms, Tile, over_terms
from relax_tapml.cpu_schedule._tile_plan import TilePlan

# Terms of a sum whose packed operands lie in the second level's cache at the same time.
_TERMS = 512
# With fewer tasks than this, rows are divided among them too, this many to each.
_FEW_TASKS = 16
_ROWS_OF_TASK = 256
# Terms that are read of one lane before the next, where terms are neighbours in memory.
_LINE = 16
_ZERO = tirx.IntImm("int64", 0)


def register_tile(plan: TilePlan, producer: Nest | None = None, *, is_parallel: bool = True) -> Any:
    """Return a reduction in tiles whose sums stay in vector registers.

    Tiles are tasks of their own where no operand is packed. Otherwise a task has all rows of some
    lanes. It packs their operand once, contiguously, in blocks of 512 terms; between blocks, sums
    wait in the result. The other operand is read element by element. Of a last tile with fewer
    lanes, the operand is packed with zeros, and what is computed from these is not stored; of one
    with fewer rows, the last row is computed repeatedly, and stored once.

    Parameters
    ----------
    plan
        From ``tile_plan``.
    producer
        A nest that only computes the tensor which is packed, element by element; it is done while
        packing. None where there is none.
    is_parallel
        Whether tasks run in parallel.
    """
    others = [axis for axis in plan.nest.spatial if axis not in (plan.lane, plan.row)]
    lane_tiles = ceildiv(plan.lane.extent, plan.lanes)
    row_tiles = None if plan.row is None else ceildiv(plan.row.extent, plan.rows)
    if plan.packed is not None:
        return _packed_tasks(plan, producer, others, is_parallel=is_parallel)
    extents = [axis.extent for axis in others]
    if row_tiles is not None:
        extents.append(row_tiles)

    def task(values: Sequence[Any]) -> Any:
        known = _known(others, values[: len(others)])
        row = None if row_tiles is None else simplified(values[-2] * plan.rows)
        tile = Tile(plan=plan, known=known, begin=simplified(values[-1] * plan.lanes), row=row)
        return tile.statement(_all_terms(plan.nest))

    return fused([*extents, lane_tiles], task, is_parallel=is_parallel)


def _packed_tasks(
    plan: TilePlan, producer: Nest | None, others: Sequence[Axis], *, is_parallel: bool
) -> Any:
    assert plan.row is not None
    batch = [axis for axis in others if uses(plan.packed, axis.var)]
    shared = [axis for axis in others if axis not in batch]
    row_tiles = ceildiv(plan.row.extent, plan.rows)
    count = math.prod(axis.size for axis in batch) * -(-plan.lane.size // plan.lanes)
    tiles_of_task = row_tiles
    is_long = plan.row.static is None or plan.row.static > _ROWS_OF_TASK
    if count < _FEW_TASKS and is_long:
        tiles_of_task = tirx.IntImm("int64", -(-_ROWS_OF_TASK // plan.rows))

    def task(values: Sequence[Any]) -> Any:
        *at, part, tile = values
        first = simplified(part * tiles_of_task)
        length = simplified(tirx.min(tiles_of_task, row_tiles - first))
        begin = simplified(tile * plan.lanes)
        known = _known(batch, at)

        def rows(terms: Sequence[Terms], panel: Any, is_first: Any) -> Any:
            def tile_at(values: Mapping[Any, Any], number: Any) -> Any:
                row = simplified((first + number) * plan.rows)
                tile = Tile(plan=plan, known={**known, **values}, begin=begin, row=row)
                return tile.statement(terms, panel, is_first)

            return nested(
                shared,
                lambda values: loop(length, lambda number: tile_at(values, number), "rows"),
            )

        def block(terms: Sequence[Terms], most: Any, is_first: Any = None) -> Any:
            dtype = str(plan.packed.ty.dtype)
            panel = tirx.decl_buffer([simplified(most * plan.lanes)], dtype, "panel")
            filled = _pack(plan, producer, panel, {**known}, begin, terms)
            return with_buffers([panel], sequence([filled, rows(terms, panel, is_first)]))

        return _blocks(plan.nest, block)

    parts = ceildiv(row_tiles, tiles_of_task) if tiles_of_task is not row_tiles else 1
    extents = [*(axis.extent for axis in batch), parts, ceildiv(plan.lane.extent, plan.lanes)]
    return fused(extents, task, is_parallel=is_parallel)


def _blocks(nest: Nest, block: Any) -> Any:
    """Return the work of a task, in blocks of terms along the only reduction axis."""
    terms = _all_terms(nest)
    whole = math.prod((one.count for one in terms), start=tirx.IntImm("int64", 1))
    (axis, *more) = nest.reductions
    is_short = axis.static is not None and axis.static <= _TERMS * 3 // 2
    if more or is_short:
        return block(terms, whole)
    extent = wide(axis.extent)

    def at(number: Any) -> Any:
        begin = simplified(number * _TERMS)
        count = simplified(tirx.min(tirx.IntImm("int64", _TERMS), extent - begin))
        part = Terms(axis=axis, begin=begin, count=count)
        return block([part], tirx.IntImm("int64", _TERMS), simplified(number < 1))

    # A sum of no terms is stored, too.
    count = tirx.max(ceildiv(extent, _TERMS), tirx.IntImm("int64", 1))
    return loop(simplified(count), at, "block")


def _pack(
    plan: TilePlan,
    producer: Nest | None,
    panel: Any,
    known: Mapping[Any, Any],
    begin: Any,
    terms: Sequence[Terms],
) -> Any:
    """Return the statement that copies an operand, ``lanes`` values for each term."""
    operand = _produced(plan.packed, producer)
    lanes: Any = tirx.IntImm("int64", plan.lanes)
    if plan.has_tail:
        lanes = simplified(tirx.min(lanes, wide(plan.lane.extent) - begin))
    zero = tirx.const(0, str(plan.packed.ty.dtype))

    def copy(at: Mapping[Any, Any], number: Any, lane: Any) -> Any:
        values = {**known, **at, plan.lane.var: (begin + lane).astype(plan.lane.dtype)}
        value = substituted(operand, values)
        return tirx.BufferStore(panel, value, [number * plan.lanes + lane])

    def fill(_at: Mapping[Any, Any], number: Any) -> Any:
        def none(lane: Any) -> Any:
            return tirx.BufferStore(panel, zero, [number * plan.lanes + lanes + lane])

        return loop(simplified(plan.lanes - lanes), none, "lane")

    if plan.is_contiguous:
        copied = over_terms(
            terms, lambda at, number: loop(lanes, lambda lane: copy(at, number, lane), "lane")
        )
    else:
        copied = _by_lines(terms, lanes, copy)
    if not plan.has_tail:
        return copied
    return sequence([copied, over_terms(terms, fill)])


def _by_lines(
    terms: Sequence[Terms], lanes: Any, body: Callable[[Mapping[Any, Any], Any, Any], Any]
) -> Any:
    """Return loops over terms and lanes that finish a line of one lane before the next lane."""
    *outer, inner = terms

    def lines(at: Mapping[Any, Any], number: Any) -> Any:
        def line(part: Any, lane: Any) -> Any:
            first = simplified(part * _LINE)
            length = simplified(tirx.min(tirx.IntImm("int64", _LINE), inner.count - first))
            some = Terms(axis=inner.axis, begin=simplified(inner.begin + first), count=length)
            before = simplified(number * inner.count + first)
            return over_terms([some], lambda here, term: body({**at, **here}, before + term, lane))

        return loop(
            ceildiv(inner.count, _LINE),
            lambda part: loop(lanes, lambda lane: line(part, lane), "lane"),
            "line",
        )

    return over_terms(outer, lines)


def _produced(operand: Any, producer: Nest | None) -> Any:
    """Return the operand, with the producer's value for the tensor that it computes."""
    if producer is None:
        return operand
    store = producer.body
    values = {
        place: index.astype(str(place.ty.dtype))
        for place, index in zip(store.indices, operand.indices, strict=True)
        if isinstance(place, tirx.Var)
    }
    return substituted(store.value, values)


def _all_terms(nest: Nest) -> list[Terms]:
    return [Terms(axis=axis, begin=_ZERO, count=wide(axis.extent)) for axis in nest.reductions]


def _known(axes: Sequence[Axis], values: Sequence[Any]) -> dict[Any, Any]:
    return {a.var: v.astype(a.dtype) for a, v in zip(axes, values, strict=True)}
