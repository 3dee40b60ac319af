"""The rule for transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from relax_tapml._compat import buffer_of
from relax_tapml.cpu_schedule._loops import ceildiv, fused, loop, point, simplified, wide
from relax_tapml.cpu_schedule._nests import Axis, Nest, uses

# Elements along each side of a block, so that its lines stay in the first level's cache.
_SIDE = 32


def transposed_axis(nest: Nest) -> Axis | None:
    """Return the axis along which a nest reads neighbours, if it writes them along another one."""
    if nest.reductions or len(nest.stores) != 1:
        return None
    (store,) = nest.stores
    written = next((axis for axis in nest.spatial if axis.var.same_as(store.indices[-1])), None)
    if written is None or written.size < _SIDE:
        return None
    for load in nest.loads:
        if buffer_of(load).same_as(store.buffer) or not load.indices:
            continue
        last = load.indices[-1]
        for axis in nest.spatial:
            if axis is not written and axis.size >= _SIDE and uses(last, axis.var):
                return None if uses(last, written.var) else axis
    return None


def transpose(nest: Nest, read: Axis, *, is_parallel: bool = True) -> Any:
    """Return a nest in square blocks of the axis that it reads along and the one it writes along.

    Parameters
    ----------
    nest
        No reduction.
    read
        From ``transposed_axis``.
    is_parallel
        Whether blocks run in parallel.
    """
    (store,) = nest.stores
    written = next(axis for axis in nest.spatial if axis.var.same_as(store.indices[-1]))
    others = [axis for axis in nest.spatial if axis not in (read, written)]

    def block(values: Sequence[Any]) -> Any:
        *at, reads, writes = values
        known = {a.var: v.astype(a.dtype) for a, v in zip(others, at, strict=True)}

        def element(row: Any, column: Any) -> Any:
            place = {
                read.var: (reads * _SIDE + row).astype(read.dtype),
                written.var: (writes * _SIDE + column).astype(written.dtype),
            }
            return point(nest, {**known, **place})

        return loop(
            _length(read, reads),
            lambda row: loop(
                _length(written, writes), lambda column: element(row, column), "write"
            ),
            "read",
        )

    extents = [*(axis.extent for axis in others), ceildiv(read.extent, _SIDE)]
    return fused([*extents, ceildiv(written.extent, _SIDE)], block, is_parallel=is_parallel)


def _length(axis: Axis, number: Any) -> Any:
    if axis.static is not None and axis.static % _SIDE == 0:
        return _SIDE
    left = wide(axis.extent) - number * _SIDE
    return simplified(tirx.min(tirx.IntImm("int64", _SIDE), left))
