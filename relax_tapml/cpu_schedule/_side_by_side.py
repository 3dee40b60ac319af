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
from relax_tapml.cpu_schedule._sums import Sums

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
        and not str(nest.body.value.ty.dtype).startswith("float8")
        and len(found([nest.body.value], ir_expr.Expr)) <= _MOST_NODES
    )


def side_by_side(nest: Nest, inner: Sequence[Any], *, is_parallel: bool = True) -> Any:
    """Return a reduction that computes eight sums at the same time, each in its order.

    Of a last group with fewer elements, the last one is computed repeatedly, and stored once.

    Parameters
    ----------
    nest
        One that the rule applies to.
    inner
        The buffers that are inside the kernel.
    is_parallel
        Whether the groups run in parallel.
    """
    row = max(nest.spatial, key=lambda axis: (axis.size >= _SUMS, nest.spatial.index(axis)))
    others = [axis for axis in nest.spatial if axis is not row]
    store = nest.body
    kind = Sums.of(nest, inner)
    zero = tirx.IntImm("int64", 0)
    is_even = row.static is not None and row.static % _SUMS == 0

    def task(values: Sequence[Any]) -> Any:
        *at, group = values
        known = {a.var: v.astype(a.dtype) for a, v in zip(others, at, strict=True)}
        sums = [kind.buffer(1, number) for number in range(_SUMS)]
        begin = simplified(group * _SUMS)
        rows = [_values(known, row, begin + number, is_even=is_even) for number in range(_SUMS)]

        def added(part: Any, values: Mapping[Any, Any]) -> Any:
            value = substituted(store.value, values)
            return with_loads(value, store.buffer, kind.load(part, zero))

        def add(terms: Mapping[Any, Any]) -> Any:
            return sequence(
                [
                    kind.store(part, added(part, {**known_row, **terms}), zero)
                    for part, known_row in zip(sums, rows, strict=True)
                ]
            )

        first = [
            kind.store(part, substituted(nest.init.value, known_row), zero)
            for part, known_row in zip(sums, rows, strict=True)
        ]
        last = []
        for number, (part, known_row) in enumerate(zip(sums, rows, strict=True)):
            place = [substituted(index, known_row) for index in store.indices]
            value = kind.load(part, zero)
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
