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
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float
from relax_tapml.compare.magnitudes import PART, root_mean_square_of, trimmed_root_mean_square
from relax_tapml.compare.tolerances.difference import absolute_difference
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.cores import in_threads, slices

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
    flat = array.reshape(-1)
    most = _least_mask(flat)

    def sizes(part: slice) -> Array:
        found = _sizes(flat[part])
        return found[found < most] if math.isfinite(most) else found

    return root_mean_square_of(sizes, flat.size)


def _least_mask(flat: Array) -> float:
    """Return the smallest mask value, infinity where there is none.

    It is the first large value, by size, far above the one before it.
    """
    large: list[Array] = []
    below: list[float] = []

    def look(part: slice) -> None:
        found = _sizes(flat[part])
        if found.size and found.max() >= _MASK:
            large.append(np.unique(found[found >= _MASK]))
            found = found[found < _MASK]
        below.append(float(found.max(initial=0.0)))

    in_threads(look, slices(flat.size, PART))
    if not large:
        return math.inf
    values = np.concatenate([[max(below)], np.unique(np.concatenate(large))])
    if not values[0]:
        values = values[1:]
    gaps = np.flatnonzero(values[1:] > _GAP * values[:-1])
    return float(values[gaps[0] + 1]) if gaps.size else math.inf


def _sizes(flat: Array) -> Array:
    """Return the magnitudes of the finite values that are not zero, in float64."""
    sizes = np.abs(as_float64(flat))
    return np.asarray(sizes[np.isfinite(sizes) & (sizes > 0)])


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

    A value may be ``FACTOR`` times as far from it as the largest of: what the oracle is off by
    there, ``of_rows`` of its row, and ``usual``; and at least as far as ``plain`` allows.

    Parameters
    ----------
    accurate
        That run, of the oracle's shape.
    of_rows
        The root mean square of what the oracle is off by, for each row along its last axis:
        float64, one axis.
    usual
        The same of all values but the largest hundredth.
    overall
        How far all values together may be from the accurate run: a root mean square, without the
        largest hundredth. Infinite where there are too few values.
    plain
        What the dtype allows.
    origin
        One sentence for reports: how the bounds were found.
    first
        Where in the flattened output the first value is, of a part.
    width
        How many values a row of the output has.
    """

    accurate: Array
    of_rows: Array
    usual: float
    overall: float
    plain: RuleTolerance
    origin: str
    width: int
    first: int = 0
    is_elementwise: ClassVar[bool] = True
    differs: ClassVar[str] = "differs from the framework's more accurate run"

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return how far each value is from the accurate run, NaN where a side is not finite."""
        accurate = self.accurate.reshape(oracle.shape)
        found = absolute_difference(as_float64(accurate), as_float64(actual))
        return np.where(np.isfinite(as_float64(oracle)), found, np.nan)

    def allowed(self, oracle: Array) -> Array:
        """Return how far each value may be, NaN where only one run of the framework is finite."""
        flat, accurate = as_float64(oracle).reshape(-1), as_float64(self.accurate).reshape(-1)
        error = _error(flat, accurate)
        places = np.arange(self.first, self.first + flat.size) // self.width
        level = np.maximum(np.maximum(error, self.of_rows[places]), self.usual)
        bound = np.maximum(self.plain.allowed(flat), FACTOR * level)
        bound[np.isfinite(flat) != np.isfinite(accurate)] = np.nan
        return bound.reshape(oracle.shape)

    def part(self, where: slice) -> FrameworkTolerance:
        return replace(
            self,
            accurate=self.accurate.reshape(-1)[where],
            first=self.first + (where.start or 0),
        )

    def overall_excess(self, oracle: Array, actual: Array) -> str:
        """Return a sentence if all values together are too far off, else an empty string."""
        left, right = oracle.reshape(-1), actual.reshape(-1)

        def distances(part: slice) -> Array:
            own = self.part(part)
            found = own.distance(left[part], right[part])
            return found[np.isfinite(found) & np.isfinite(own.allowed(left[part]))]

        usual = trimmed_root_mean_square(distances, left.size, _OUTLIERS)
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
    left, right = oracle.reshape(-1), accurate.reshape(-1)
    width = max(oracle.shape[-1] if oracle.ndim else 1, 1)

    def errors(part: slice) -> Array:
        return _error(as_float64(left[part]), as_float64(right[part]))

    of_rows = np.empty(left.size // width)

    def set_rows(rows: slice) -> None:
        found = errors(slice(rows.start * width, rows.stop * width)).reshape(-1, width)
        of_rows[rows] = np.sqrt(np.mean(found**2, axis=1))

    in_threads(set_rows, slices(len(of_rows), max(1, PART // width)))
    usual = trimmed_root_mean_square(errors, left.size, _OUTLIERS)
    whole = math.sqrt(np.mean(of_rows**2)) if of_rows.size else 0.0
    overall = max(OVERALL_FACTOR * usual, plain.atol)
    return FrameworkTolerance(
        accurate=accurate,
        of_rows=of_rows,
        usual=usual,
        overall=overall if left.size >= _FEWEST else math.inf,
        plain=plain,
        origin=f"{FACTOR:g} times the error of the framework's own {oracle.dtype} run against its "
        f"{accurate.dtype} run (root mean square {whole:.2g}), and {OVERALL_FACTOR:g} times "
        f"over all values; at least {plain.origin}",
        width=width,
    )


def _error(oracle: Array, accurate: Array) -> Array:
    """Return what the framework's own run is off by, 0 where either run is not finite."""
    error = absolute_difference(oracle, accurate)
    return np.where(np.isfinite(error), error, 0.0)


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
    return not _sees_a_tenth(oracle, tolerance)


def _sees_a_tenth(oracle: Array, tolerance: Tolerance) -> bool:
    """Return whether a tenth of some value is more than is allowed there."""

    def sees(values: Array, own: Tolerance) -> bool:
        with np.errstate(invalid="ignore"):
            return bool((_SEEN * np.abs(as_float64(values)) > own.allowed(values)).any())

    if not tolerance.is_elementwise:
        return sees(oracle, tolerance)
    flat = oracle.reshape(-1)
    return any(sees(flat[part], tolerance.part(part)) for part in slices(flat.size, PART))


def share_of(oracle: Array, tolerance: Tolerance) -> float | None:
    """Return the root mean square of what is allowed over that of the oracle; None if it is 0."""
    if not is_float(oracle.dtype):
        return None
    size = root_mean_square(oracle)
    if size and isinstance(tolerance, FrameworkTolerance) and math.isfinite(tolerance.overall):
        return tolerance.overall / size
    if not size:
        return None
    flat = oracle.reshape(-1)
    # One that is not elementwise is asked for all values at once.
    whole = None if tolerance.is_elementwise else tolerance.allowed(oracle).reshape(-1)

    def allowed(part: slice) -> Array:
        found = tolerance.part(part).allowed(flat[part]) if whole is None else whole[part]
        return np.asarray(found[np.isfinite(found)])

    return root_mean_square_of(allowed, flat.size) / size
