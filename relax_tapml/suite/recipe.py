"""Tensors that a suite describes instead of holding: a few numbers make them, everywhere alike.

They are whole numbers times a power of two, made of a hash of their places; see
``carve.probe._exact`` for what they are good for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import (
    Allocate,
    Array,
    dtype_named,
    empty_aligned,
    hash_in_place,
    hashed,
    is_float,
)
from relax_tapml.cores import in_threads, slices

_MOST_MAGNITUDE, _MOST_PARTS, _MOST_EXPONENT = 1 << 20, 1 << 16, 1000
# Places that are hashed at once, so that what that takes stays in a cache; and by one thread.
_PART, _TOGETHER = 1 << 15, 1 << 19
_MOST_LISTED = 1 << 14
MOST_ELEMENTS = 1 << 30
"""Of a made tensor. A manifest comes from anywhere, and a shape in it must not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a float tensor is made.

    The value at each place is a whole number, not zero, times ``2**exponent``. Of several parts of
    one seed each place is zero in all but one.

    Parameters
    ----------
    seed
        Tells tensors of one shape apart.
    magnitude
        Whole numbers are from 1 to this.
    parts, part
        Which places are not zero: about one in ``parts``.
    exponent
        Of the power of two.
    is_signed
        Whether values are of either sign, or all positive.

    Raises
    ------
    ValueError
        A number is out of its range.
    """

    seed: int
    magnitude: int
    parts: int = 1
    part: int = 0
    exponent: int = 0
    is_signed: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, 2**63),
            ("magnitude", 1, _MOST_MAGNITUDE),
            ("parts", 1, _MOST_PARTS),
            ("part", 0, self.parts - 1),
            ("exponent", -_MOST_EXPONENT, _MOST_EXPONENT),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(
                    f"{name} of a generated tensor is {value!r}, expected a whole number from "
                    f"{low} to {high}"
                )

    def array(
        self, dtype: str, shape: Sequence[int], *, allocate: Allocate = empty_aligned
    ) -> Array:
        """Return the tensor.

        Parameters
        ----------
        dtype
            A float dtype by name. It holds the values exactly, or they are rounded to it.
        shape
            Of the tensor.
        allocate
            Makes the array.

        Raises
        ------
        ValueError
            The dtype is no float, or the shape is none or too large.
        """
        made_of = dtype_named(dtype)
        size = math.prod(shape)
        if not is_float(made_of) or not 0 <= size <= MOST_ELEMENTS or min(shape, default=0) < 0:
            raise ValueError(f"a tensor of {dtype} {list(shape)} cannot be generated")
        array = allocate((size,), made_of)
        # Few values are converted once each, and then chosen. As bits: NumPy copies values of
        # ml_dtypes one by one.
        bits = np.dtype(f"u{made_of.itemsize}")
        is_listed = self.magnitude <= _MOST_LISTED
        listed = self._values(np.arange(2 * self.magnitude + 1)) if is_listed else None
        table = None if listed is None else listed.astype(made_of).view(bits)

        def fill(part: slice) -> None:
            scratch = np.empty((3, _PART), np.uint64)
            for start in range(part.start, part.stop, _PART):
                stop = min(start + _PART, part.stop)
                choices = self._choices(start, scratch[:, : stop - start]).view(np.int64)
                if table is None:
                    array[start:stop] = self._values(choices).astype(made_of)
                else:
                    np.take(table, choices, out=array[start:stop].view(bits), mode="clip")

        in_threads(fill, slices(size, _TOGETHER))
        return np.asarray(array.reshape(tuple(shape)))

    def _choices(self, start: int, scratch: Array) -> Array:
        """Return which of the values is at each of successive places: uint64.

        Value ``2 * n`` is ``-(n + 1)``, ``2 * n + 1`` is ``n + 1``, and the last one is 0.

        Parameters
        ----------
        start
            The first place.
        scratch
            uint64, three rows of as many places; the result is one of them. All that is computed
            of some places stays in a cache.
        """
        hashes: Array = scratch[0]
        choices: Array = scratch[1]
        rest: Array = scratch[2]
        hashes[:] = np.arange(start, start + hashes.size, dtype=np.uint64)
        with np.errstate(over="ignore"):
            hashes += hashed(np.asarray([self.seed], np.uint64))
        hash_in_place(hashes, rest)
        np.right_shift(hashes, np.uint64(40), out=choices)
        _take_rest(choices, self.magnitude, rest)
        choices <<= np.uint64(1)
        if self.is_signed:
            choices |= np.bitwise_and(hashes, np.uint64(1), out=rest)
        else:
            choices |= np.uint64(1)
        if self.parts > 1:
            hashes >>= np.uint64(8)
            _take_rest(hashes, self.parts, rest)
            choices[hashes != np.uint64(self.part)] = 2 * self.magnitude
        return choices

    def _values(self, choices: Array) -> Array:
        """Return the values of ``_choices``, float64."""
        whole = choices // 2 + 1
        whole = np.where(choices % 2 == 1, whole, -whole)
        whole[choices == 2 * self.magnitude] = 0
        return np.ldexp(whole.astype(np.float64), self.exponent)


def _take_rest(numbers: Array, divisor: int, scratch: Array) -> None:
    """Replace numbers by the rests of a division; NumPy divides by multiplications, unlike ``%``.

    All are uint64; ``scratch`` has the shape of the numbers.
    """
    by = np.uint64(divisor)
    if divisor & (divisor - 1):
        np.floor_divide(numbers, by, out=scratch)
        scratch *= by
        numbers -= scratch
    else:
        numbers &= by - np.uint64(1)
