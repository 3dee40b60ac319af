"""Bounds as places in a table of few values, none smaller than it was.

Most bounds of a case are one of a few dozen numbers: what a rounding to the output's dtype may do,
times a power of two. So a byte says which it is, and bytes that repeat can be compressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array, as_float64, is_float

STEP = 1 / 32
"""By how much of itself a bound may grow."""

_FEW = 256
_MOST = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundTable:
    """Bounds as places in a table.

    Parameters
    ----------
    values
        Ascending, from 0 to infinity, then NaN if there is any: of the dtype of the bounds, with
        one axis and at most 65,536 entries.
    places
        For each bound, flattened, where it is in ``values``: uint8 if these are at most 256,
        otherwise uint16.

    Raises
    ------
    ValueError
        The values are not such, or a place is none.
    """

    values: Array
    places: Array

    def __post_init__(self) -> None:
        count = len(self.values)
        if self.values.ndim != 1 or not is_float(self.values.dtype) or count > _MOST:
            raise ValueError(f"a table of {count} {self.values.dtype} values is none of bounds")
        wide = as_float64(self.values)
        judged = wide[:-1] if count and np.isnan(wide[-1]) else wide
        if not (np.all(judged >= 0) and np.all(np.diff(judged) > 0)):
            raise ValueError("the values in the table of its bounds do not ascend from 0")
        if self.places.dtype != place_dtype(count):
            raise ValueError(f"its bounds are places of {self.places.dtype}")
        if self.places.size and int(self.places.max()) >= count:
            raise ValueError(f"a bound is value {self.places.max()} of {count}")

    @classmethod
    def of(cls, bounds: Array) -> BoundTable | None:
        """Return the table of some bounds.

        If they have more than 256 values, each becomes the least of some of these values that is
        not smaller, and at most ``STEP`` larger. Zero, infinity and NaN stay what they are.

        Parameters
        ----------
        bounds
            Of any float dtype and any shape, none of them negative.

        Returns
        -------
        BoundTable or None
            None where it would have more than 65,536 values.
        """
        flat = np.ascontiguousarray(bounds).reshape(-1)
        found = _distinct(flat)
        wide, first = np.unique(as_float64(found), return_index=True)  # 0 and -0 are one, NaN last
        has_nan = bool(np.isnan(wide[-1:]).any())
        kept = np.arange(len(wide))
        if len(kept) > _FEW:
            kept = _covering(wide[: len(wide) - has_nan])
            kept = np.concatenate([kept, [len(wide) - 1]]) if has_nan else kept
        if len(kept) > _MOST:
            return None
        values = found[first[kept]]
        return cls(values=values, places=_places(flat, values))

    def bounds(self) -> Array:
        """Return the bounds, flattened."""
        return self.values[self.places]


def place_dtype(count: int) -> np.dtype[np.generic]:
    """Return the dtype of places in a table of ``count`` values."""
    return np.dtype(np.uint8 if count <= _FEW else np.uint16)


def _distinct(flat: Array) -> Array:
    """Return the values that are there, each at least once."""
    if flat.itemsize > 2:
        return np.unique(flat)
    bits = flat.view(f"u{flat.itemsize}")
    counts = np.bincount(bits, minlength=1)
    return np.flatnonzero(counts).astype(bits.dtype).view(flat.dtype)


def _covering(values: Array) -> Array:
    """Return places of few values such that each has one that is not smaller and little larger.

    Parameters
    ----------
    values
        Ascending float64, not negative.
    """
    kept = []
    last = len(values) - 1
    while last >= 0:
        kept.append(last)
        least = values[last] / (1 + STEP)
        # What the division rounds down would be covered by a little too much.
        least = min(np.nextafter(least, np.inf), values[last])
        last = int(np.searchsorted(values[: last + 1], least)) - 1
    return np.asarray(kept[::-1], np.int64)


def _places(flat: Array, values: Array) -> Array:
    """Return the first of ascending values that is not smaller than each bound."""
    dtype = place_dtype(len(values))
    wide = as_float64(values)
    if flat.itemsize > 2:
        return np.searchsorted(wide, as_float64(flat)).astype(dtype)
    # Each bit pattern once.
    patterns = np.arange(1 << (8 * flat.itemsize)).astype(f"u{flat.itemsize}")
    of_pattern = np.searchsorted(wide, as_float64(patterns.view(flat.dtype)))
    return np.asarray(of_pattern.astype(dtype)[flat.view(patterns.dtype)])
