"""How far a result may be from its oracle, value by value, and why."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float, is_integer, is_same_value
from relax_tapml.compare.chosen_distance import chosen, chosen_distance
from relax_tapml.compare.difference import absolute_difference
from relax_tapml.compare.usual_magnitude import usual_magnitude

_FLUSHED = 2.0**-126


class Tolerance(ABC):
    """What each value of an output is held to: ``distance <= allowed``.

    Attributes
    ----------
    origin
        One sentence for people: where the numbers come from.
    is_elementwise
        Whether a value's distance and allowance depend on that value alone, so that an array may
        be judged part by part, and floats as float64; see ``part``.
    differs
        The words that begin the description of a mismatch.
    """

    origin: str
    is_elementwise: ClassVar[bool] = False
    differs: ClassVar[str] = "differs"
    differs_infinitely: ClassVar[str] = "differs without bound"

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return how far each value is from the oracle's: float64, same shape.

        NaN where either is not finite: such values must be where the oracle has them.
        """
        return absolute_difference(oracle, actual)

    @abstractmethod
    def allowed(self, oracle: Array) -> Array:
        """Return how far each value may be: float64, same shape; NaN where none is judged."""

    def check(self, oracle: Array) -> None:  # noqa: B027 - most tolerances are for any shape
        """Raise ``ValueError`` if this is no tolerance for an oracle of its shape."""

    def part(self, where: slice) -> Tolerance:  # noqa: ARG002
        """Return the tolerance of a slice of the flattened oracle, if ``is_elementwise``."""
        return self


@dataclass(frozen=True, kw_only=True)
class RuleTolerance(Tolerance):
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

    def __post_init__(self) -> None:
        for name in ("atol", "rtol"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")

    def allowed(self, oracle: Array) -> Array:
        """Return ``rtol * |oracle| + atol``, and ``atol`` where the oracle is not finite."""
        allowed = np.asarray(np.abs(as_float64(oracle)))
        with np.errstate(over="ignore", invalid="ignore"):
            allowed *= self.rtol
            allowed += self.atol
            has_others = not math.isfinite(allowed.sum())
        if has_others:
            allowed[~np.isfinite(as_float64(oracle))] = self.atol
        return allowed


@dataclass(frozen=True, kw_only=True)
class EqualTolerance(Tolerance):
    """Values must be equal; zeros are, whatever their sign."""

    origin: str
    is_elementwise: ClassVar[bool] = True

    def allowed(self, oracle: Array) -> Array:
        """Return zeros."""
        return np.zeros(oracle.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementTolerance(Tolerance):
    """Each finite value may differ by a bound of its own.

    Parameters
    ----------
    bound
        Of any float dtype and of the oracle's shape, not negative. NaN: that value is not judged,
        also if one side is NaN or infinite there.
    origin
        One sentence for reports: how the bounds were found.
    coarse
        The bounds for devices whose sine, cosine and arcs are as coarse as WGSL and Vulkan allow;
        None: the same.

    Raises
    ------
    ValueError
        A bound is negative.
    """

    bound: Array
    origin: str
    coarse: Array | None = None
    is_elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("bound", "coarse"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if not is_float(bound.dtype):
                raise ValueError(f"{name}: expected a float dtype, got {bound.dtype}")
            if bound.dtype.name != "float8_e8m0fnu" and bool((as_float64(bound) < 0).any()):
                raise ValueError(f"{name}: expected at least 0, got {as_float64(bound).min()}")
            object.__setattr__(self, name, np.require(bound, requirements="C"))

    def allowed(self, oracle: Array) -> Array:
        """Return the bounds. Raises ``ValueError`` if the oracle has another shape."""
        self.check(oracle)
        return as_float64(self.bound)

    def check(self, oracle: Array) -> None:
        """Raise ``ValueError`` if the oracle has another shape."""
        if oracle.shape != self.bound.shape:
            raise ValueError(
                f"expected a bound for each value of {list(oracle.shape)}, "
                f"got {list(self.bound.shape)}"
            )

    def part(self, where: slice) -> ElementTolerance:
        """Return the bounds of a slice of the flattened oracle."""
        return ElementTolerance(bound=self.bound.reshape(-1)[where], origin=self.origin)


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexTolerance(Tolerance):
    """Indices may differ if the values they choose do not, as ties of argsort and top-k.

    Parameters
    ----------
    values
        What the indices point into. Its shape is the oracle's but for the length of ``axis``; or
        it has that axis where the oracle has none, as for argmax.
    axis
        Along which axis of ``values`` the indices count; negative from the end.
    origin
        One sentence for reports: why several answers are right.
    slack
        How far each of ``values`` may be off, of their shape; None: they are exact.
    """

    values: Array
    axis: int
    origin: str
    slack: Array | None = None
    differs: ClassVar[str] = "chooses values that differ"
    differs_infinitely: ClassVar[str] = (
        "chooses an index that is out of range or chosen twice, or a NaN or infinity in place of "
        "another value"
    )

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return ``|values[actual] - values[oracle]|`` along the axis, 0 where indices are equal.

        Infinite where an index is out of range, where one occurs twice along the axis although it
        does not in the oracle, and where one of the two values is NaN and the other is not, or
        they are not equal and one is infinite.

        Raises
        ------
        ValueError
            The oracle's shape does not fit that of ``values``.
        """
        distance = chosen_distance(self.values, self.axis, oracle, actual)
        if self.slack is None:
            return distance
        # An index that is wrong whatever it chooses is infinitely far.
        slack = sum(chosen(self.slack, self.axis, indices) for indices in (oracle, actual))
        return np.maximum(distance - slack, 0.0)

    def allowed(self, oracle: Array) -> Array:
        """Return zeros."""
        return np.zeros(oracle.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChoiceTolerance(Tolerance):
    """Each value may be near any of several oracles, as where equal scores choose different rows.

    Parameters
    ----------
    base
        How far from the nearest of them.
    alternatives
        The other oracles: of the oracle's dtype, with one axis more, the first.
    origin
        One sentence for reports: why several answers are right.
    """

    base: Tolerance
    alternatives: Array
    origin: str

    def nearest(self, oracle: Array, actual: Array) -> Array:
        """Return the oracle, where it is not right with the alternative nearest to a result.

        Where none is right, the oracle stays.
        """
        self.check(oracle)
        if oracle.shape != actual.shape or oracle.dtype != actual.dtype:
            return oracle
        found = oracle.copy()
        allowed = np.asarray(self.base.allowed(oracle))
        best = _apart(oracle, actual)
        best[best <= allowed] = 0.0
        for other in self.alternatives:
            apart = _apart(other, actual)
            is_better = (apart <= allowed) & (apart < best)
            found[is_better], best[is_better] = other[is_better], apart[is_better]
        return found

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return the distance from the nearest oracle."""
        return self.base.distance(self.nearest(oracle, actual), actual)

    def allowed(self, oracle: Array) -> Array:
        """Return what the base allows."""
        return self.base.allowed(oracle)

    def check(self, oracle: Array) -> None:
        """Raise ``ValueError`` if the oracle has another shape."""
        self.base.check(oracle)
        if self.alternatives.shape[1:] != oracle.shape:
            raise ValueError(
                f"expected alternatives for each value of {list(oracle.shape)}, "
                f"got {list(self.alternatives.shape[1:])}"
            )


def _apart(oracle: Array, actual: Array) -> Array:
    """Return the distance, 0 where both are the same, infinite where only one is finite."""
    apart = np.atleast_1d(absolute_difference(oracle, actual)).reshape(oracle.shape)
    if is_float(oracle.dtype):
        is_same = is_same_value(oracle, actual)
        apart = np.where(is_same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    return np.array(apart, np.float64)


def with_coarse(fine: Tolerance, coarse: Tolerance) -> Tolerance:
    """Return a tolerance that is ``coarse`` for devices whose elementary functions are.

    Only bounds value by value are taken from it.
    """
    if not isinstance(coarse, ElementTolerance):
        return fine
    if isinstance(fine, EqualTolerance):  # whole numbers that only a coarse function may change
        fine = ElementTolerance(bound=np.zeros_like(coarse.bound), origin=fine.origin)
    return replace(fine, coarse=coarse.bound) if isinstance(fine, ElementTolerance) else fine


def tolerance_for(oracle: Array) -> RuleTolerance:
    """Derive a tolerance from the dtype and the values of an oracle.

    Integers and bool must be equal. For floats both numbers are in units of the dtype's eps, the
    distance from 1 to the next value::

        rtol = 2**r * eps        atol = 2**a * eps * scale

    - float32 and float64, r = 10, a = 8: a long sum, or an exp or tanh with another polynomial,
      differs by some hundred roundings.
    - float16 and bfloat16, r = a = 3: kernels accumulate in float32 and round once, so results are
      neighbours; 8 leaves room for accumulation in the type itself.
    - float8 and narrower, r = a = 1: a value may become its neighbour on either side, which is up
      to two eps away; anything above would accept every value.

    ``scale`` is the usual magnitude of the oracle, so that ``atol`` covers the cancellation errors
    of values near zero: the median of its finite nonzero magnitudes. Mask values do not count,
    or they would hide every error of the others: neither those at the limit of the dtype (-3.4e38)
    nor those a factor of 1000 above all values below them (-1e4, -1e9). ``atol`` is at least the
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
