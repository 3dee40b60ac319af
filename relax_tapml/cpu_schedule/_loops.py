"""Statements that rules write."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import tirx

from relax_tapml._compat import Analyzer, SBlock, SBlockRealize
from relax_tapml.cpu_schedule._nests import Axis, Nest, same, substituted

Body = Callable[[Any], Any]

MANY = 64
"""Iterations that are enough for the threads of a CPU."""


def loop(
    extent: Any, body: Body, name: str, *, dtype: str = "int64", kind: Any = tirx.ForKind.SERIAL
) -> Any:
    """Return a loop from 0; one of a single iteration is its body.

    Parameters
    ----------
    extent
        How many iterations; a number or an expression of ``dtype``.
    body
        Returns its statement for the loop's value.
    name, dtype
        Of the loop's value.
    kind
        A ``tirx.ForKind``.
    """
    if isinstance(extent, int):
        extent = tirx.IntImm(dtype, extent)
    if isinstance(extent, tirx.IntImm) and int(extent) == 1:
        return body(tirx.IntImm(dtype, 0))
    var = tirx.Var(name, dtype)
    return tirx.For(var, tirx.IntImm(dtype, 0), extent, kind, body(var))


def vector(lanes: int, body: Body) -> Any:
    """Return a loop that becomes vector instructions."""
    return loop(lanes, body, "lane", kind=tirx.ForKind.VECTORIZED)


def nested(
    axes: Sequence[Axis], body: Callable[[Mapping[Any, Any]], Any], *, parallel: int = 0
) -> Any:
    """Return loops over axes, the first outermost, of which some run in parallel as one.

    Parameters
    ----------
    axes
        Extents and variables.
    body
        Returns its statement for the values of the axes' variables.
    parallel
        How many of the axes, from the first, run in parallel.
    """

    def serial(left: Sequence[Axis], values: Mapping[Any, Any]) -> Any:
        if not left:
            return body(values)
        axis, *inner = left
        return loop(
            axis.extent,
            lambda value: serial(inner, {**values, axis.var: value}),
            axis.var.name,
            dtype=axis.dtype,
        )

    if not parallel:
        return serial(axes, {})
    outer, inner = axes[:parallel], axes[parallel:]
    return fused(
        [axis.extent for axis in outer],
        lambda values: serial(
            inner,
            {axis.var: value.astype(axis.dtype) for axis, value in zip(outer, values, strict=True)},
        ),
    )


def fused(
    extents: Sequence[Any], body: Callable[[Sequence[Any]], Any], *, is_parallel: bool = True
) -> Any:
    """Return a parallel loop over the points of a box, the last extent fastest."""
    extents = [simplified(wide(extent)) for extent in extents]
    zero = tirx.IntImm("int64", 0)
    values: list[Any] = [zero] * len(extents)
    many = [at for at, extent in enumerate(extents) if not same(extent, tirx.IntImm("int64", 1))]
    if not many:
        return body(values)
    var = tirx.Var("task", "int64")
    rest: Any = var
    for at in many[:0:-1]:
        values[at] = simplified(tirx.floormod(rest, extents[at]))
        rest = simplified(tirx.floordiv(rest, extents[at]))
    values[many[0]] = rest
    count = simplified(math.prod(extents, start=tirx.IntImm("int64", 1)))
    kind = tirx.ForKind.PARALLEL if is_parallel else tirx.ForKind.SERIAL
    return tirx.For(var, zero, count, kind, body(values))


def point(nest: Nest, values: Mapping[Any, Any]) -> Any:
    """Return the statement of a nest for some of its spatial axes, with loops over the others.

    ``values`` has the variables of axes that have a value.
    """
    left = [axis for axis in nest.spatial if axis.var not in values]

    def reduced(inner: Mapping[Any, Any]) -> Any:
        known = {**values, **inner}
        body = nested(nest.reductions, lambda at: substituted(nest.body, {**known, **at}))
        return body if nest.init is None else sequence([substituted(nest.init, known), body])

    return nested(left, reduced)


def sequence(statements: Sequence[Any]) -> Any:
    """Return statements one after another."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def with_buffers(buffers: Sequence[Any], body: Any) -> Any:
    """Return a statement with buffers that live as long as it runs."""
    if not buffers:
        return body
    block = SBlock([], [], [], "work", body, alloc_buffers=list(buffers))
    return SBlockRealize([], True, block)


def ceildiv(extent: Any, size: Any) -> Any:
    """Return the number of pieces of a size, int64."""
    return simplified(tirx.floordiv(wide(extent) + (size - 1), size))


def simplified(expr: Any) -> Any:
    """Return an integer expression as TVM simplifies it."""
    return Analyzer().simplify(expr)


def wide(value: Any) -> Any:
    """Return an integer expression as int64."""
    if isinstance(value, int):
        return tirx.IntImm("int64", value)
    return value.astype("int64")
