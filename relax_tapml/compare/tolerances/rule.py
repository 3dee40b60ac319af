"""A tolerance of two numbers, and the default one of a dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float, is_integer
from relax_tapml.compare.tolerances.stored import ReadTensor, StoredTolerance, TensorWriter
from relax_tapml.compare.tolerances.tolerance import StorableTolerance
from relax_tapml.compare.tolerances.usual_magnitude import usual_magnitude

_FLUSHED = 2.0**-126


@dataclass(frozen=True, kw_only=True)
class RuleTolerance(StorableTolerance):
    """Finite values may differ by ``rtol * |expected| + atol``.

    Parameters
    ----------
    atol, rtol
        Finite and not negative.
    origin
        One sentence for reports: why these numbers.

    Raises
    ------
    ValueError
        A number is negative or not finite.
    """

    atol: float
    rtol: float
    origin: str
    is_elementwise: ClassVar[bool] = True
    kind: ClassVar[str] = "rule"
    stored: ClassVar[tuple[str, ...]] = ("atol", "rtol")

    def __post_init__(self) -> None:
        for name in ("atol", "rtol"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")

    def allowed(self, oracle: Array) -> Array:
        allowed = np.asarray(np.abs(as_float64(oracle)))
        with np.errstate(over="ignore", invalid="ignore"):
            allowed *= self.rtol
            allowed += self.atol
            has_others = not math.isfinite(allowed.sum())
        if has_others:
            allowed[~np.isfinite(as_float64(oracle))] = self.atol
        return allowed

    def store(self, write: TensorWriter, inputs: Sequence[Array]) -> StoredTolerance:
        return StoredTolerance(kind=self.kind, origin=self.origin, atol=self.atol, rtol=self.rtol)

    @classmethod
    def read(cls, stored: StoredTolerance, tensor: ReadTensor, inputs: Sequence[str]) -> Self:
        numbers = stored.values
        return cls(atol=numbers["atol"], rtol=numbers["rtol"], origin=stored.origin)


def tolerance_for(oracle: Array) -> RuleTolerance:
    """Derive a tolerance from the dtype and the values of an oracle.

    Integers and bool must be equal. For floats both numbers are in units of the dtype's eps, the
    distance from 1 to the next value::

        rtol = 2**r * eps        atol = 2**a * eps * scale

    - float32 and float64, r = 10, a = 8: a long sum, or an exp or tanh with another polynomial,
      differs by some hundred roundings.
    - float16 and bfloat16, r = a = 3: kernels accumulate in float32 and round once, so results are
      neighbours; 8 eps also allow accumulation in the type itself.
    - float8 and narrower, r = a = 1: a value may become its neighbour on either side, which is up
      to two eps away; a larger tolerance would accept every value.

    ``scale`` is the usual magnitude of the oracle, the median of its finite nonzero magnitudes, so
    that ``atol`` covers the cancellation errors of values near zero. Mask values do not count,
    because they would hide every error of the others: those at the limit of the dtype (-3.4e38),
    and those a factor of 1000 above all values below them (-1e4, -1e9). ``atol`` is at least the
    smallest normal float32, since a device may flush denormals to zero.

    Raises
    ------
    TypeError
        The dtype is neither float nor integer nor bool.
    """
    dtype = oracle.dtype
    if is_integer(dtype):
        return RuleTolerance(atol=0.0, rtol=0.0, origin=f"{dtype} values must be equal")
    if not is_float(dtype):
        raise TypeError(f"no tolerance for {dtype}: expected float, integer or bool")
    info = finfo(dtype)
    eps = float(info.eps)
    if eps < 2**-20:
        relative, absolute = 10, 8
    elif eps < 2**-6:
        relative, absolute = 3, 3
    else:
        relative, absolute = 1, 1
    scale = usual_magnitude(oracle)
    return RuleTolerance(
        atol=max(2**absolute * eps * scale, min(_FLUSHED, float(info.smallest_normal))),
        rtol=2**relative * eps,
        origin=f"{2**relative} eps of {dtype} relative to the value, plus {2**absolute} eps of "
        f"{scale:.3g}, the usual magnitude of the oracle",
    )
