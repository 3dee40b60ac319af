"""A tolerance with a bound for each value."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import ml_dtypes
import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.stored import ReadTensor, StoredTolerance, TensorWriter
from relax_tapml.compare.tolerances.tolerance import StorableTolerance, Tolerance

_SIGNED = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementTolerance(StorableTolerance):
    """Each finite value may differ by a bound of its own.

    Parameters
    ----------
    bound
        Of any float dtype and of the oracle's shape, not negative. NaN: that value is not judged,
        also if one side is NaN or infinite there.
    origin
        One sentence for reports: how the bounds were found.
    low_precision
        The bounds for devices whose elementary functions are less accurate, as WGSL and Vulkan
        allow and as CUDA's fast math is; None if they are the same.

    Raises
    ------
    ValueError
        A bound is negative.
    """

    bound: Array
    origin: str
    low_precision: Array | None = None
    is_elementwise: ClassVar[bool] = True
    kind: ClassVar[str] = "elements"
    stored: ClassVar[tuple[str, ...]] = ("bound",)

    def __post_init__(self) -> None:
        for name in ("bound", "low_precision"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if not is_float(bound.dtype):
                raise ValueError(f"{name}: expected a float dtype, got {bound.dtype}")
            if _has_negative(bound):
                raise ValueError(f"{name}: expected at least 0, got {as_float64(bound).min()}")
            object.__setattr__(self, name, np.require(bound, requirements="C"))

    def allowed(self, oracle: Array) -> Array:
        """Return the bounds. Raises ``ValueError`` if the oracle has another shape."""
        self.check(oracle)
        return as_float64(self.bound)

    def check(self, oracle: Array) -> None:
        if oracle.shape != self.bound.shape:
            raise ValueError(
                f"expected a bound for each value of {list(oracle.shape)}, "
                f"got {list(self.bound.shape)}"
            )

    def part(self, where: slice) -> ElementTolerance:
        part = copy(self)  # Nothing of it need be checked once more.
        object.__setattr__(part, "bound", self.bound.reshape(-1)[where])
        object.__setattr__(part, "low_precision", None)
        return part

    def store(self, write: TensorWriter, inputs: Sequence[Array]) -> StoredTolerance:
        return StoredTolerance(
            kind=self.kind,
            origin=self.origin,
            bound=write.bound(self.bound),
            coarse=None if self.low_precision is None else write.bound(self.low_precision),
        )

    @classmethod
    def read(cls, stored: StoredTolerance, tensor: ReadTensor, inputs: Sequence[str]) -> Self:
        return cls(bound=tensor(stored.tensors["bound"]), origin=stored.origin)


def _has_negative(bound: Array) -> bool:
    if bound.dtype.name == "float8_e8m0fnu" or not bound.size:
        return False
    # Of what is below zero, -0 and some NaN, the first bit is set.
    is_signed_first = finfo(bound.dtype).bits == 8 * bound.itemsize and bound.dtype.isnative
    signed = _SIGNED.get(bound.itemsize) if is_signed_first else None
    if signed is not None and int(np.ascontiguousarray(bound).view(signed).min()) >= 0:
        return False
    return bool((as_float64(bound) < 0).any())


def with_low_precision(usual: Tolerance, wider: Tolerance) -> Tolerance:
    """Return a tolerance with the bounds of ``wider`` for devices with low-precision functions.

    Only bounds value by value are taken from it.
    """
    if not isinstance(wider, ElementTolerance):
        return usual
    if isinstance(usual, EqualTolerance):  # whole numbers that only such a function may change
        usual = ElementTolerance(bound=np.zeros_like(wider.bound), origin=usual.origin)
    if not isinstance(usual, ElementTolerance):
        return usual
    return replace(usual, low_precision=wider.bound)


def rounded_up(bound: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return bounds in a dtype of 16 bits, none smaller than it was; float64 for a float64 oracle.

    Infinite bounds become NaN, which means that the value is not judged.
    """
    if dtype == np.float64:
        return bound
    shape, bound = bound.shape, bound.reshape(-1)
    with np.errstate(over="ignore"):
        narrow = bound.astype(np.float32)
    narrow = np.where(narrow < bound, np.nextafter(narrow, np.float32(np.inf)), narrow)
    bits = narrow.view(np.uint32)
    is_finite = np.isfinite(narrow)
    up = np.where(is_finite, bits + np.uint32(0xFFFF), bits) >> np.uint32(16)
    rounded = np.asarray(up, np.uint16).view(ml_dtypes.bfloat16)
    rounded[~np.isfinite(rounded)] = np.nan
    return np.asarray(rounded.reshape(shape))
