"""How far the source of a model may be from the framework that the model comes from.

Both compute in the model's dtype, and neither is exact. The error that the dtype allows is relative
to the size of the whole output, its root mean square, because each value is computed from terms of
about that size, even a value near zero. If a difference is larger, the framework is run once more
in a wider dtype (``Model.accurate``), and the source may differ from that run by ``FACTOR`` times
the framework's own difference. LAPACK's tests and mixed-precision papers judge results in this way:
by the error that the same computation has by its own precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float
from relax_tapml.compare.tolerances.difference import absolute_difference
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance

FACTOR = 16.0
"""The allowed multiple of the framework's own error, for each value. Sums in another order, and
accumulated in the model's dtype where the framework accumulates in float32, had up to 7 times its
root mean square error."""

OVERALL_FACTOR = 8.0
"""The same for the root mean square of all values but the largest hundredth; up to 3 times were
observed. It detects errors that no single value shows, such as an output scaled by 1.1."""

_FEWEST = 64  # The root mean square of fewer values depends too much on chance.
_BOUNDED_EPS = 2.0
_FLUSHED = 2.0**-126
# A mask value (-1e4, -1e9, the dtype's lowest) has at least this magnitude, and is this many times
# larger than all other values.
_MASK, _GAP = 1e4, 1e3
_OUTLIERS = 0.01
_SEEN = 0.1


def root_mean_square(array: Array) -> float:
    """Return the root mean square of a float array's finite values, without zeros and mask values.

    0 where there are none.
    """
    sizes = np.abs(as_float64(array)).reshape(-1)
    sizes = np.sort(sizes[np.isfinite(sizes) & (sizes > 0)])
    gaps = np.flatnonzero((sizes[1:] >= _MASK) & (sizes[1:] > _GAP * sizes[:-1]))
    if gaps.size:
        sizes = sizes[: gaps[0] + 1]
    return _rms(sizes)


def plain_tolerance(oracle: Array, *, is_bounded: bool = False) -> RuleTolerance:
    """Return the tolerance of an output's dtype, in eps of the value and of the root mean square.

    Parameters
    ----------
    oracle
        The framework's output.
    is_bounded
        Whether it comes directly from a sigmoid, a softmax or another function with values in
        [-1, 1], which may be accurate relative to 1 only.
    """
    rule = tolerance_for(oracle)
    if not is_float(oracle.dtype):
        return rule
    eps = float(finfo(oracle.dtype).eps)
    # As many eps as ``tolerance_for`` allows, but of another scale.
    relative = rule.rtol / eps
    absolute = relative / 4 if eps < 2**-20 else relative
    scale = root_mean_square(oracle)
    parts = [absolute * eps * scale, min(_FLUSHED, float(finfo(oracle.dtype).smallest_normal))]
    origin = (
        f"{relative:g} eps of {oracle.dtype} relative to the value, plus {absolute:g} eps of "
        f"{scale:.3g}, the root mean square of the framework's output"
    )
    if is_bounded:
        parts.append(_BOUNDED_EPS * min(eps, 2.0**-23))
        origin += f", or {parts[-1]:.2g}, as the last function has values up to 1"
    return RuleTolerance(atol=max(parts), rtol=rule.rtol, origin=origin)


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameworkTolerance(Tolerance):
    """Values are held to a more accurate run of the framework, not to the oracle.

    Parameters
    ----------
    accurate
        That run: float64, of the oracle's shape.
    bound
        How far each value may be from it: float64, of the oracle's shape, NaN where not judged.
    overall
        How far all values together may be from it: a root mean square, without the largest
        hundredth. Infinite where there are too few values.
    origin
        One sentence for reports: how the bounds were found.
    """

    accurate: Array
    bound: Array
    overall: float
    origin: str
    is_elementwise: ClassVar[bool] = True
    differs: ClassVar[str] = "differs from the framework's more accurate run"

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return how far each value is from the accurate run, NaN where a side is not finite."""
        found = absolute_difference(self.accurate.reshape(oracle.shape), as_float64(actual))
        return np.where(np.isfinite(as_float64(oracle)), found, np.nan)

    def allowed(self, oracle: Array) -> Array:
        return self.bound.reshape(oracle.shape)

    def part(self, where: slice) -> FrameworkTolerance:
        return FrameworkTolerance(
            accurate=self.accurate.reshape(-1)[where],
            bound=self.bound.reshape(-1)[where],
            overall=self.overall,
            origin=self.origin,
        )

    def overall_excess(self, oracle: Array, actual: Array) -> str:
        """Return a sentence if all values together are too far off, else an empty string."""
        found = self.distance(oracle, actual)
        usual = _usual(found[np.isfinite(found) & np.isfinite(self.bound)])
        if not usual > self.overall:
            return ""
        return (
            f"{self.differs} by a root mean square of {usual:.3g} over all values, "
            f"expected at most {self.overall:.3g}"
        )


def framework_tolerance(oracle: Array, accurate: Array, plain: RuleTolerance) -> Tolerance | None:
    """Return how far the source may be from a more accurate run of the framework.

    The framework's error is the largest of three: that of the value itself, the root mean square of
    its row (along the last axis), and that of all values but the largest hundredth. A single error
    may be small by chance. Whole numbers must be equal, and are not judged where the two runs of
    the framework differ, because rounding decides there; nor are floats where only one run is
    finite.

    Parameters
    ----------
    oracle
        The framework's output in the model's dtype.
    accurate
        The same from a more accurate run.
    plain
        From ``plain_tolerance``: the least that is allowed.

    Returns
    -------
    Tolerance or None
        None if ``accurate`` is not of the oracle's shape, or no more accurate than the oracle.
    """
    if accurate.shape != oracle.shape or is_float(accurate.dtype) != is_float(oracle.dtype):
        return None
    if not is_float(oracle.dtype):
        is_open = oracle != accurate
        if not is_open.any():
            return None
        return ElementTolerance(
            bound=np.where(is_open, np.nan, 0.0),
            origin=f"{oracle.dtype} values must be equal, except where a more accurate run of the "
            "framework has another value, because rounding decides there",
        )
    if float(finfo(accurate.dtype).eps) >= float(finfo(oracle.dtype).eps):
        return None
    wide = as_float64(accurate)
    error = absolute_difference(as_float64(oracle), wide)
    is_open = np.isfinite(wide) != np.isfinite(as_float64(oracle))
    error = np.where(np.isfinite(error), error, 0.0)
    rows = error.reshape(-1, error.shape[-1] if error.ndim else 1)
    of_row = np.sqrt((rows**2).mean(axis=1, keepdims=True))
    usual = _usual(error)
    level = np.maximum(np.maximum(rows, of_row), usual).reshape(error.shape)
    bound = np.maximum(plain.allowed(oracle), FACTOR * level)
    overall = max(OVERALL_FACTOR * usual, plain.atol)
    return FrameworkTolerance(
        accurate=wide,
        bound=np.where(is_open, np.nan, bound),
        overall=overall if error.size >= _FEWEST else math.inf,
        origin=f"{FACTOR:g} times the error of the framework's own {oracle.dtype} run against its "
        f"{accurate.dtype} run (root mean square {_rms(error):.2g}), and {OVERALL_FACTOR:g} times "
        f"over all values; at least {plain.origin}",
    )


def is_blunt(oracle: Array, tolerance: Tolerance) -> bool:
    """Return whether a tolerance for floats accepts 1.1 times the oracle as well.

    A tolerance that rejects it also rejects zeros and the negated oracle. A tolerance of the size
    of the oracle is blunt even if a few values are larger.
    """
    if not is_float(oracle.dtype):
        return False
    share = share_of(oracle, tolerance)
    if share is None or share >= 1:
        return True
    if isinstance(tolerance, FrameworkTolerance) and share < _SEEN:
        return False
    with np.errstate(invalid="ignore"):
        return not (_SEEN * np.abs(as_float64(oracle)) > tolerance.allowed(oracle)).any()


def share_of(oracle: Array, tolerance: Tolerance) -> float | None:
    """Return the root mean square of what is allowed over that of the oracle; None if it is 0."""
    if not is_float(oracle.dtype):
        return None
    size = root_mean_square(oracle)
    if size and isinstance(tolerance, FrameworkTolerance) and math.isfinite(tolerance.overall):
        return tolerance.overall / size
    allowed = tolerance.allowed(oracle).reshape(-1)
    return _rms(allowed[np.isfinite(allowed)]) / size if size else None


def _usual(errors: Array) -> float:
    """Return the root mean square of all but the largest hundredth."""
    return _rms(np.sort(errors.reshape(-1))[: max(1, int(errors.size * (1 - _OUTLIERS)))])


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
