"""The rule for everything: outer loops in parallel, inner ones as they were."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from relax_tapml.cpu_schedule._loops import MANY, fused, nested, point, simplified
from relax_tapml.cpu_schedule._nests import Nest

# Consecutive iterations that one thread does of a nest of a single axis.
_CHUNK = 4096


def parallel(nest: Nest, *, is_parallel: bool = True) -> Any:
    """Return a nest whose outer spatial axes run in parallel.

    As many of them, from the outermost, as give the threads work; a single one in pieces. LLVM
    makes vector instructions of what is inside, where it has no reduction.
    """
    axes = nest.spatial
    if not is_parallel or not axes:
        return point(nest, {})
    count, size = 0, 1
    while count < len(axes) and size < MANY:
        size *= axes[count].size
        count += 1
    last = axes[-1]
    if count < len(axes) or last.size < 2 * _CHUNK:
        return nested(axes[:count], lambda values: point(nest, values), parallel=count)

    def piece(values: Any) -> Any:
        begin = simplified(values[-1] * _CHUNK)
        length = tirx.min(tirx.IntImm("int64", _CHUNK), last.extent.astype("int64") - begin)
        known = {
            axis.var: value.astype(axis.dtype)
            for axis, value in zip(axes[:-1], values[:-1], strict=True)
        }
        inner = tirx.Var(last.var.name, last.dtype)
        at = (begin + inner.astype("int64")).astype(last.dtype)
        return tirx.For(
            inner,
            tirx.IntImm(last.dtype, 0),
            simplified(length).astype(last.dtype),
            tirx.ForKind.SERIAL,
            point(nest, {**known, last.var: at}),
        )

    pieces = tirx.floordiv(last.extent.astype("int64") + (_CHUNK - 1), _CHUNK)
    return fused([*(axis.extent for axis in axes[:-1]), pieces], piece)
