"""Numbers about tensors that add up: of many small ones at once, or of a large one in parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array, is_float

CHUNK = 1 << 18
"""Values looked at together: small tensors are stacked, large ones cut along their rows."""

MOST_VALUES = 1 << 22
"""Of a single tensor; of a larger one, parts are read. Facts choose cases and prove nothing."""

MASK = -1e4
"""A float of this or less is a mask value: models mask with -1e4, -1e9 or the dtype's lowest."""

LOWEST_RANGE, RANGES = -4, 20
"""Magnitudes from 1/16 to 65536, where exp, tanh and their like change what they do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorNumbers:
    """Numbers about some rows of a tensor; without rows, those of an empty tensor.

    Parameters
    ----------
    size, zeros, ones
        How many values there are, and how many of them are 0 and 1.
    masked
        How many are mask values, -infinity included if the dtype is a float.
    ordinary
        How many are finite and no mask value.
    has_nan, has_plus, has_minus
        Whether there is a NaN, an infinity, a negative infinity.
    has_zero_row, has_masked_row
        Whether a row of the last axis holds nothing else. Tensors of one axis have no rows.
    low, high
        Least and greatest finite value.
    largest, smallest
        Greatest and least nonzero magnitude of ordinary values.
    squares
        Sum of their squares.
    first, last
        The values at both ends.
    ranges
        In which ranges between powers of two a float tensor has ordinary values, as bits: bit
        ``i`` for magnitudes from ``2**(LOWEST_RANGE + i)`` on, bit ``RANGES + i`` if negative.
    """

    size: int = 0
    zeros: int = 0
    ones: int = 0
    masked: int = 0
    ordinary: int = 0
    has_nan: bool = False
    has_plus: bool = False
    has_minus: bool = False
    has_zero_row: bool = False
    has_masked_row: bool = False
    low: float = math.inf
    high: float = -math.inf
    largest: float = 0.0
    smallest: float = math.inf
    squares: float = 0.0
    first: float = 0.0
    last: float = 0.0
    ranges: int = 0

    def joined(self, later: TensorNumbers) -> TensorNumbers:
        """Return the numbers about these rows and the ones that follow."""
        return TensorNumbers(
            size=self.size + later.size,
            zeros=self.zeros + later.zeros,
            ones=self.ones + later.ones,
            masked=self.masked + later.masked,
            ordinary=self.ordinary + later.ordinary,
            has_nan=self.has_nan or later.has_nan,
            has_plus=self.has_plus or later.has_plus,
            has_minus=self.has_minus or later.has_minus,
            has_zero_row=self.has_zero_row or later.has_zero_row,
            has_masked_row=self.has_masked_row or later.has_masked_row,
            low=min(self.low, later.low),
            high=max(self.high, later.high),
            largest=max(self.largest, later.largest),
            smallest=min(self.smallest, later.smallest),
            squares=self.squares + later.squares,
            first=self.first,
            last=later.last,
            ranges=self.ranges | later.ranges,
        )


def tensor_numbers(arrays: Sequence[Array]) -> list[TensorNumbers]:
    """Return the numbers about arrays of one dtype and shape, at least one array.

    At most about ``CHUNK`` values are copied at a time, or one row where that is longer. Of an
    array of more than ``MOST_VALUES`` values, that many are read, in parts from its beginning to
    its end.
    """
    parts = [_numbers(chunk) for chunk in _chunks(arrays)]
    if len(arrays) > 1 and parts:
        return [numbers for part in parts for numbers in part]
    if not parts:
        return [TensorNumbers()] * len(arrays)
    whole = parts[0][0]
    for [part] in parts[1:]:
        whole = whole.joined(part)
    return [whole]


def _chunks(arrays: Sequence[Array]) -> Iterator[Array]:
    """Yield (tensors, rows, columns): whole tensors together, or rows of a single one."""
    shape = arrays[0].shape
    columns = shape[-1] if len(shape) > 1 else 1
    size = math.prod(shape)
    if size == 0:
        return
    if len(arrays) == 1:
        rows = arrays[0].reshape(1, -1, columns)
        step = max(1, CHUNK // columns)
        starts = range(0, rows.shape[1], step)
        # Of a very large tensor, as many evenly spaced parts as are read of one at the limit.
        every = -(-len(starts) // max(1, MOST_VALUES // (step * columns)))
        for start in dict.fromkeys((*starts[::every], starts[-1])):
            yield rows[:, start : start + step]
        return
    step = max(1, CHUNK // size)
    for start in range(0, len(arrays), step):
        stacked = np.stack(arrays[start : start + step])
        yield stacked.reshape(len(stacked), -1, columns)


def _numbers(chunk: Array) -> list[TensorNumbers]:
    """Return the numbers about each tensor of a (tensors, rows, columns) chunk."""
    with np.errstate(invalid="ignore", over="ignore"):
        columns = _columns(chunk)
    names = list(columns)
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return [TensorNumbers(**dict(zip(names, row, strict=True))) for row in rows]


def _columns(chunk: Array) -> dict[str, Array]:
    """Return each number for all tensors of a chunk; those left out have their default."""
    count, has_rows, is_floating = len(chunk), chunk.shape[2] > 1, is_float(chunk.dtype)
    narrow = is_floating and chunk.dtype.itemsize <= 4
    values: Array = chunk.astype(np.float32 if narrow else np.float64, copy=False)
    size = values[0].size
    zero: Array = values == 0
    found: dict[str, Array] = {
        "size": np.full(count, size),
        "zeros": zero.sum((1, 2)),
        "first": values[:, 0, 0],
        "last": values[:, -1, -1],
        "ordinary": np.full(count, size),
        "low": values.min((1, 2)),
        "high": values.max((1, 2)),
    }
    if has_rows:
        found["has_zero_row"] = _has_row(zero)
    if not np.isfinite([found["low"], found["high"]]).all():
        finite = np.isfinite(values)
        found |= {
            "ordinary": finite.sum((1, 2)),
            "has_nan": np.any(np.isnan(values), (1, 2)),
            "has_plus": np.any(np.equal(values, np.inf), (1, 2)),
            "has_minus": np.any(np.equal(values, -np.inf), (1, 2)),
            "low": values.min((1, 2), where=finite, initial=np.inf),
            "high": values.max((1, 2), where=finite, initial=-np.inf),
        }
        # -infinity may be a mask; the others count for nothing.
        values = np.where(finite | (values == -np.inf), values, 0)
    if is_floating and values.min() <= MASK:
        masked: Array = np.less_equal(values, MASK)
        found["masked"] = masked.sum((1, 2))
        found["ordinary"] = found["ordinary"] - (masked & np.isfinite(values)).sum((1, 2))
        if has_rows:
            found["has_masked_row"] = _has_row(masked)
        values = np.where(masked, 0, values)
    if ((found["low"] >= 0) & (found["high"] <= 1)).any():
        found["ones"] = (values == 1).sum((1, 2))
    if is_floating:
        found["ranges"] = _ranges(values)
    magnitudes = np.abs(values)
    found["largest"] = magnitudes.max((1, 2))
    found["smallest"] = magnitudes.min((1, 2), where=magnitudes > 0, initial=np.inf)
    found["squares"] = np.einsum("bij,bij->b", magnitudes, magnitudes, dtype=np.float64)
    return found


def _has_row(flags: Array) -> Array:
    """Say for which tensors all flags of some row are set."""
    return np.asarray(np.any(np.all(flags, axis=2), axis=1))


def _ranges(values: Array) -> Array:
    """Return ``TensorNumbers.ranges`` of each tensor: int64."""
    count = len(values)
    bits = np.ascontiguousarray(values, np.float32).reshape(count, -1).view(np.uint32)
    # Sign and exponent of a float32 are its upper nine bits.
    seen = np.zeros((count, 512), bool)
    seen[np.arange(count)[:, None], bits >> 23] = True
    start = 127 + LOWEST_RANGE
    both = np.hstack([seen[:, start : start + RANGES], seen[:, 256 + start : 256 + start + RANGES]])
    return np.asarray(both @ (1 << np.arange(2 * RANGES, dtype=np.int64)))
