"""The rule for products with a vector, and other reductions of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml.cpu_schedule._loops import (
    ceildiv,
    fused,
    nested,
    sequence,
    simplified,
    wide,
    with_buffers,
)
from relax_tapml.cpu_schedule._nests import Axis, Nest, found, substituted, with_loads

# Sums that are done at the same time: each waits for its last addition, not for the others.
_SUMS = 8
_MOST_NODES = 40


def can_be_side_by_side(nest: Nest) -> bool:
    """Whether the rule applies: a reduction with one store, a short one, to many elements."""
    statements = nest.statements
    return (
        bool(nest.reductions)
        and nest.init is not None
        and all(isinstance(statement, tirx.BufferStore) for statement in statements)
        and nest.init.buffer.same_as(nest.body.buffer)
        and any(axis.size >= _SUMS for axis in nest.spatial)
        and len(found([nest.body.value], ir_expr.Expr)) <= _MOST_NODES
    )


def side_by_side(nest: Nest, *, is_parallel: bool = True) -> Any:
    """Return a reduction that computes eight sums at the same time, each in its order.

    Of a last group with fewer elements, the last one is computed repeatedly, and stored once.
    """
    row = max(nest.spatial, key=lambda axis: (axis.size >= _SUMS, nest.spatial.index(axis)))
    others = [axis for axis in nest.spatial if axis is not row]
    store = nest.body
    dtype = str(store.value.ty.dtype)
    is_even = row.static is not None and row.static % _SUMS == 0

    def task(values: Sequence[Any]) -> Any:
        *at, group = values
        known = {a.var: v.astype(a.dtype) for a, v in zip(others, at, strict=True)}
        sums = [
            tirx.decl_buffer([1], dtype, f"sum_{number}", scope="local") for number in range(_SUMS)
        ]
        begin = simplified(group * _SUMS)
        rows = [_values(known, row, begin + number, is_even=is_even) for number in range(_SUMS)]

        def add(terms: Mapping[Any, Any]) -> Any:
            return sequence(
                [
                    _store(part, _accumulated(nest, part, {**known_row, **terms}))
                    for part, known_row in zip(sums, rows, strict=True)
                ]
            )

        first = [
            _store(part, substituted(nest.init.value, known_row))
            for part, known_row in zip(sums, rows, strict=True)
        ]
        last = []
        for number, (part, known_row) in enumerate(zip(sums, rows, strict=True)):
            place = [substituted(index, known_row) for index in store.indices]
            value = tirx.BufferLoad(part, [tirx.IntImm("int64", 0)])
            stored = tirx.BufferStore(store.buffer, value, place)
            is_row = begin + number < wide(row.extent)
            last.append(stored if is_even or not number else tirx.IfThenElse(is_row, stored, None))
        return with_buffers(sums, sequence([*first, nested(nest.reductions, add), *last]))

    extents = [*(axis.extent for axis in others), ceildiv(row.extent, _SUMS)]
    return fused(extents, task, is_parallel=is_parallel)


def _values(known: Mapping[Any, Any], row: Axis, value: Any, *, is_even: bool) -> Mapping[Any, Any]:
    if not is_even:
        value = tirx.min(value, wide(row.extent) - 1)
    return {**known, row.var: simplified(value).astype(row.dtype)}


def _store(sums: Any, value: Any) -> Any:
    return tirx.BufferStore(sums, value, [tirx.IntImm("int64", 0)])


def _accumulated(nest: Nest, sums: Any, values: Mapping[Any, Any]) -> Any:
    return with_loads(
        substituted(nest.body.value, values),
        nest.body.buffer,
        tirx.BufferLoad(sums, [tirx.IntImm("int64", 0)]),
    )
