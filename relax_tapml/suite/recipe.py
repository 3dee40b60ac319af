"""Tensors that a suite describes instead of holding: a few numbers make them, everywhere alike.

They are whole numbers times a power of two, made of a hash of their places; see
``carve.probe._exact`` for what they are good for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array, dtype_named, hashed, is_float
from relax_tapml.cores import in_threads, slices
from relax_tapml.files.mapped import shared_array

_MOST_MAGNITUDE, _MOST_PARTS, _MOST_EXPONENT = 1 << 20, 1 << 16, 1000
_PART = 1 << 16  # Of the places that are hashed at once: what that takes stays in a cache.
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

    def array(self, dtype: str, shape: Sequence[int]) -> Array:
        """Return the tensor.

        Parameters
        ----------
        dtype
            A float dtype by name. It holds the values exactly, or they are rounded to it.
        shape
            Of the tensor.

        Raises
        ------
        ValueError
            The dtype is no float, or the shape is none or too large.
        """
        made_of = dtype_named(dtype)
        size = math.prod(shape)
        if not is_float(made_of) or not 0 <= size <= MOST_ELEMENTS or min(shape, default=0) < 0:
            raise ValueError(f"a tensor of {dtype} {list(shape)} cannot be generated")
        array = shared_array((size,), made_of)
        # Few values are converted once each, and then chosen.
        is_listed = self.magnitude <= _MOST_LISTED
        listed = self._values(np.arange(-self.magnitude, self.magnitude + 1)) if is_listed else None
        if listed is not None:
            listed = listed.astype(made_of)

        def fill(part: slice) -> None:
            whole = self._whole(np.arange(part.start, part.stop, dtype=np.uint64))
            array[part] = (
                self._values(whole).astype(made_of)
                if listed is None
                else listed[whole + self.magnitude]
            )

        # In parts: the hashes are several times as large as the tensor.
        in_threads(fill, slices(size, _PART))
        return np.asarray(array.reshape(tuple(shape)))

    def _whole(self, places: Array) -> Array:
        """Return the whole numbers at some places: int64."""
        hashes = hashed(places + hashed(np.asarray([self.seed], np.uint64)))
        whole = 1 + _rest(hashes >> np.uint64(40), self.magnitude).astype(np.int64)
        if self.is_signed:
            whole = np.where(hashes & np.uint64(1), whole, -whole)
        if self.parts > 1:
            own = _rest(hashes >> np.uint64(8), self.parts) == np.uint64(self.part)
            whole = np.where(own, whole, 0)
        return whole

    def _values(self, whole: Array) -> Array:
        return np.ldexp(whole.astype(np.float64), self.exponent)


def _rest(numbers: Array, divisor: int) -> Array:
    """Return the rest of a division of uint64, which NumPy does with multiplications, unlike %."""
    by = np.uint64(divisor)
    return np.asarray(numbers - numbers // by * by)
