"""A part of an oracle and of a result, with the data that several metrics need."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, overload

import ml_dtypes
import numpy as np

from relax_tapml.arrays import Array, are_same_bytes, as_float64, is_float
from relax_tapml.compare.metrics.norm import dot
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.cores import slices

BLOCK_VALUES = 1 << 16
"""Small enough that the float64 temporaries of a block stay in a core's cache, and large enough
that NumPy's cost of a call is negligible."""

_PART_VALUES = 1 << 21

# The squares of these floats are float64 numbers, and so are sums of them.
_SQUARED_BYTES = 4
_INFINITIES = {
    np.dtype(dtype): int(np.asarray(np.inf, dtype).view(f"u{np.dtype(dtype).itemsize}"))
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
}
"""The bits of infinity, one more than those of the largest finite value, where larger magnitudes
have larger bits."""


_Value = TypeVar("_Value")


class computed_once(Generic[_Value]):  # noqa: N801 - used as property is
    """A property that is computed on first use, as by ``functools.cached_property``.

    Before Python 3.12, that one lets no two threads compute it at once, also of two objects.
    """

    def __init__(self, compute: Callable[[Any], _Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, block: None, _owner: type | None = None) -> computed_once[_Value]: ...
    @overload
    def __get__(self, block: object, _owner: type | None = None) -> _Value: ...
    def __get__(
        self, block: object | None, _owner: type | None = None
    ) -> computed_once[_Value] | _Value:
        if block is None:
            return self
        found: _Value = self._compute(block)
        block.__dict__[self._name] = found
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Some successive values, flattened; each property is computed on first use.

    A value counts for metrics of size if it is judged and both sides are finite, so that its
    distance is a number.

    Parameters
    ----------
    start
        The flat index of the first value.
    oracle, actual
        The values, of one shape and one dtype.
    tolerance
        Of these values.
    """

    start: int
    oracle: Array
    actual: Array
    tolerance: Tolerance

    @computed_once
    def is_identical(self) -> bool:
        """Whether both sides are the same bytes."""
        return are_same_bytes(self.oracle, self.actual)

    @computed_once
    def wide_oracle(self) -> Array:
        """The oracle as float64, flat."""
        return as_float64(self.oracle).reshape(-1)

    @computed_once
    def wide_actual(self) -> Array:
        """The result as float64, flat."""
        return self.wide_oracle if self.is_identical else as_float64(self.actual).reshape(-1)

    @computed_once
    def is_finite(self) -> bool:
        """Whether every value of both sides is finite."""
        if not is_float(self.oracle.dtype):
            return True
        if self.largest is not None:
            infinity = _INFINITIES[self.oracle.dtype]
            others = self.largest if self.is_identical else _largest(self.actual)
            return self.largest < infinity and others is not None and others < infinity
        # A sum is cheaper than a mask. If it overflows, the mask decides.
        with np.errstate(over="ignore", invalid="ignore"):
            return all(
                math.isfinite(side.sum()) or bool(np.isfinite(side).all())
                for side in (self.wide_oracle, self.wide_actual)
            )

    @computed_once
    def largest(self) -> int | None:
        """The bits of the largest magnitude in the oracle: infinity's and more are not finite.

        None where there is no value, or the order of its dtype's bits is another one.
        """
        return _largest(self.oracle)

    @property
    def is_saturated(self) -> bool:
        """Whether a value of the oracle may be at the limit of its dtype, or is not finite."""
        return self.largest is None or self.largest >= _INFINITIES[self.oracle.dtype] - 1

    @computed_once
    def allowed(self) -> Array:
        """How far each value may be, float64, flat; NaN where it is not judged."""
        oracle = self.wide_oracle if self._is_wide else self.oracle
        return self.tolerance.allowed(oracle).reshape(-1)

    @computed_once
    def is_judged(self) -> Array | None:
        """Which values are judged; None if all are."""
        if self.tolerance.is_exact:
            return None
        unjudged = np.isnan(self.allowed)
        return ~unjudged if unjudged.any() else None

    @computed_once
    def distance(self) -> Array:
        """How far each value is from the oracle's, float64, flat; 0 where it does not count."""
        if self.is_identical:
            return np.zeros(self.oracle.size)
        if self._is_wide:
            distance = self.tolerance.distance(self.wide_oracle, self.wide_actual)
        else:
            distance = self.tolerance.distance(self.oracle, self.actual).reshape(-1)
        return distance if self.counted is None else np.where(self.counted, distance, 0.0)

    @computed_once
    def counted(self) -> Array | None:
        """Which values count; None if all do."""
        if self.is_finite:
            return self.is_judged
        are_finite = np.isfinite(self.wide_oracle) & np.isfinite(self.wide_actual)
        return are_finite if self.is_judged is None else are_finite & self.is_judged

    @computed_once
    def signal(self) -> Array:
        """The oracle as float64, flat, 0 where it does not count."""
        return self._counting(self.wide_oracle)

    def forget_values(self) -> None:
        """Free the float64 copies of values; they are made again if they are asked for."""
        for name in ("wide_oracle", "wide_actual", "signal", "response"):
            self.__dict__.pop(name, None)

    @property
    def is_plain(self) -> bool:
        """Whether both sides are the same finite values, all judged, whose squares have no limit.

        What follows from their squares needs these only if there are other blocks.
        """
        return (
            self.tolerance.is_exact
            and self.is_identical
            and self.is_finite
            and self.largest is not None
            and self.oracle.itemsize <= _SQUARED_BYTES
        )

    @computed_once
    def squares(self) -> float:
        """The squared norm of ``signal``."""
        return dot(self.signal, self.signal)

    @computed_once
    def response(self) -> Array:
        """The result as float64, flat, 0 where it does not count."""
        return self.signal if self.is_identical else self._counting(self.wide_actual)

    @property
    def _is_wide(self) -> bool:
        # Floats are converted once for all metrics; 64-bit integers would lose digits.
        return self.tolerance.is_elementwise and is_float(self.oracle.dtype)

    def _counting(self, values: Array) -> Array:
        return values if self.counted is None else np.where(self.counted, values, 0.0)


class Collector(Protocol):
    """Collects data, block after block."""

    def add(self, block: Block) -> None:
        """Take a block into account."""


def blocks(
    oracle: Array, actual: Array, tolerance: Tolerance, part: slice | None = None
) -> Iterator[Block]:
    """Yield two arrays of one shape and dtype in blocks, in row-major order.

    There is one block if the tolerance needs all values at once.

    Parameters
    ----------
    oracle, actual, tolerance
        What is compared.
    part
        Of the flattened arrays, from ``parts_of``; by default all.

    Raises
    ------
    ValueError
        The tolerance is for another shape.
    """
    tolerance.check(oracle)
    if not tolerance.is_elementwise:
        yield Block(start=0, oracle=oracle, actual=actual, tolerance=tolerance)
        return
    flat_oracle, flat_actual = oracle.reshape(-1), actual.reshape(-1)
    whole = slice(0, oracle.size) if part is None else part
    for start in range(whole.start, whole.stop, BLOCK_VALUES):
        where = slice(start, min(start + BLOCK_VALUES, whole.stop))
        yield Block(
            start=start,
            oracle=flat_oracle[where],
            actual=flat_actual[where],
            tolerance=tolerance.part(where),
        )


def parts_of(oracle: Array, tolerance: Tolerance) -> list[slice]:
    """Return the parts of a flattened oracle that are judged beside each other, whole rows each.

    There is one unless it is large.
    """
    row = oracle.shape[-1] if oracle.ndim and oracle.shape[-1] > 1 else oracle.size
    if not tolerance.is_elementwise or oracle.size <= _PART_VALUES:
        return [slice(0, oracle.size)]
    return list(slices(oracle.size, max(1, _PART_VALUES // row) * row))


def _largest(values: Array) -> int | None:
    """Return what ``Block.largest`` is."""
    if values.dtype not in _INFINITIES or not values.size:
        return None
    bits = np.dtype(f"u{values.itemsize}").type
    return int((values.reshape(-1).view(bits) & bits(np.iinfo(bits).max >> 1)).max())
