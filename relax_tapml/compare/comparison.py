"""One result against its oracle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from relax_tapml.arrays import Array, is_float, is_integer
from relax_tapml.compare._mismatches import BEYOND, Mismatches, describe, mismatch_at
from relax_tapml.compare._worst_value import WorstValue
from relax_tapml.compare.error_map import ErrorMap, error_map
from relax_tapml.compare.metrics.block import Collector, blocks, parts_of
from relax_tapml.compare.metrics.metric import Measure, Metric
from relax_tapml.compare.metrics.registry import measures, metrics_for
from relax_tapml.compare.power import Power, PowerMeter, is_above_tolerance
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.cores import in_threads

# More threads would mostly wait for the lock of Python's interpreter.
_THREADS = 4


def _nothing_measured() -> dict[str, Measure]:
    return measures(metrics_for(has_floats=False))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison.

    Parameters
    ----------
    verdict
        ``PASS``, ``MISMATCH``, or ``SKIPPED`` where there are values and none of them is judged.
    reason
        One short sentence for people.
    total
        How many values were judged: 0 for an empty tensor, and if shape or dtype differ.
    unjudged
        How many values were not judged, because the tolerance leaves them out.
    mismatches
        How many of the judged values differ by more than they may.
    error, allowed
        The numbers for a table: distance and tolerance of the value with the largest ratio of the
        two. If the most severe mismatch is a value that is not finite on one side, NaN or infinity,
        and the tolerance of the first such value. ``allowed`` is NaN where no value counts.
    metrics
        The value of each metric by name; None if it has no value for the dtype.
    first_index, first_expected, first_actual
        The first mismatch in row-major order, with its values as Python numbers; None without one.
    first_ulp
        How far that value is in units in the last place; None where it has no such distance.
    ties
        How many values are another choice than the oracle's, and as good.
    tolerance
        Of the values.
    power
        Which errors that tolerance detects; None where no value is judged, and for a mismatch.
    error_map
        Where the mismatches are and how large; None without one.
    """

    verdict: Verdict
    reason: str
    total: int
    unjudged: int = 0
    mismatches: int = 0
    error: float = 0.0
    allowed: float = math.nan
    metrics: Mapping[str, Measure] = field(default_factory=_nothing_measured)
    first_index: tuple[int, ...] | None = None
    first_expected: float | int | bool | None = None
    first_actual: float | int | bool | None = None
    first_ulp: int | None = None
    ties: int = 0
    tolerance: Tolerance
    power: Power | None = None
    error_map: ErrorMap | None = None

    @property
    def max_abs(self) -> float:
        """The metric of this name, for reasons."""
        return self._number("max_abs") or 0.0

    @property
    def cosine(self) -> float | None:
        """The metric of this name, on which verdicts depend."""
        return self._number("cosine")

    @property
    def snr_db(self) -> float | None:
        """The metric of this name, for reasons."""
        return self._number("snr_db")

    def _number(self, name: str) -> float | None:
        value = self.metrics[name]
        return value if isinstance(value, float) else None

    @property
    def is_empty(self) -> bool:
        """Whether there was no value, judged or not."""
        return self.total == self.unjudged == 0

    @property
    def is_sharp(self) -> bool:
        """Whether it passes and would not pass for a grossly wrong result.

        It is not sharp if the result is at an obtuse angle to its oracle.
        """
        if self.verdict is not Verdict.PASS or self.power is None:
            return False
        return not self.power.is_blunt and not (self.cosine is not None and self.cosine < 0.0)

    @property
    def ratio(self) -> float:
        """``error / allowed``: 0 without an error, infinite for one that is not allowed at all."""
        if self.error == 0.0:
            return 0.0
        if not math.isfinite(self.error) or not self.allowed > 0.0:
            return math.inf
        return self.error / self.allowed


def compare(oracle: Array, actual: Array, tolerance: Tolerance | None = None) -> Comparison:
    """Compare a result with its oracle, value by value.

    Parameters
    ----------
    oracle, actual
        Arrays of float, integer or bool type, bfloat16 and float8 included. A result of another
        shape or dtype is a mismatch: nothing is converted or broadcast.
    tolerance
        By default ``tolerance_for(oracle)``.

    Raises
    ------
    TypeError
        The oracle has another dtype.
    ValueError
        The tolerance is for another shape.
    """
    if not (is_float(oracle.dtype) or is_integer(oracle.dtype)):
        raise TypeError(f"cannot compare {oracle.dtype}: expected float, integer or bool")
    tolerance = tolerance or tolerance_for(oracle)
    for what, expected, got in (
        ("shape", list(oracle.shape), list(actual.shape)),
        ("dtype", oracle.dtype, actual.dtype),
    ):
        if expected != got:
            return Comparison(
                verdict=Verdict.MISMATCH,
                reason=f"expected {what} {expected}, got {got}",
                total=0,
                tolerance=tolerance,
            )
    if oracle.size == 0:
        return Comparison(
            verdict=Verdict.PASS,
            reason=f"no values to compare, shape {list(oracle.shape)}",
            total=0,
            tolerance=tolerance,
        )
    return _judge_choices(oracle, actual, tolerance)


def _judge_choices(oracle: Array, actual: Array, tolerance: Tolerance) -> Comparison:
    nearest = tolerance.nearest(oracle, actual)
    found = _judge(nearest, actual, tolerance.of_nearest)
    ties = tolerance.ties(oracle, nearest, actual, found.mismatches)
    return replace(found, ties=ties, tolerance=tolerance)


@dataclass(frozen=True, kw_only=True)
class _Collected:
    """What is found in a part of two arrays."""

    mismatches: Mismatches
    worst_value: WorstValue
    metrics: list[Metric]
    power: PowerMeter

    @classmethod
    def of(
        cls, oracle: Array, actual: Array, tolerance: Tolerance, part: slice, metrics: list[Metric]
    ) -> _Collected:
        found = cls(
            mismatches=Mismatches(),
            worst_value=WorstValue(),
            metrics=metrics,
            power=PowerMeter(oracle, tolerance),
        )
        collectors: list[Collector] = [found.mismatches, found.worst_value, *metrics]
        for block in blocks(oracle, actual, tolerance, part):
            for collector in collectors:
                collector.add(block)
            if not found.mismatches.count:
                found.power.add(block)
        return found

    def join(self, later: _Collected) -> None:
        self.mismatches.join(later.mismatches)
        self.worst_value.join(later.worst_value)
        for metric, other in zip(self.metrics, later.metrics, strict=True):
            metric.join(other)
        if not self.mismatches.count:
            self.power.join(later.power)


def _collected(oracle: Array, actual: Array, tolerance: Tolerance) -> _Collected:
    """Return what is found in two arrays, part by part in threads where they are large."""
    has_floats = is_float(oracle.dtype)
    parts = parts_of(oracle, tolerance)
    if len(parts) == 1:
        metrics = metrics_for(has_floats=has_floats)
        return _Collected.of(oracle, actual, tolerance, parts[0], metrics)
    found: dict[int, _Collected] = {}
    apart = [metric for metric in metrics_for(has_floats=has_floats) if not metric.can_join()]

    def collect(number: int) -> None:
        if number == len(parts):
            for block in blocks(oracle, actual, tolerance):
                for metric in apart:
                    metric.add(block)
            return
        metrics = [m for m in metrics_for(has_floats=has_floats) if m.can_join()]
        found[number] = _Collected.of(oracle, actual, tolerance, parts[number], metrics)

    in_threads(collect, range(len(parts) + bool(apart)), most=_THREADS)
    first, *later = (found[number] for number in range(len(parts)))
    for one in later:
        first.join(one)
    first.metrics.extend(apart)
    return first


def _judge(oracle: Array, actual: Array, tolerance: Tolerance) -> Comparison:
    found = _collected(oracle, actual, tolerance)
    mismatches, worst_value, power = found.mismatches, found.worst_value, found.power
    comparison = Comparison(
        verdict=Verdict.PASS,
        reason="",
        total=mismatches.total,
        unjudged=oracle.size - mismatches.total,
        error=worst_value.distance,
        allowed=worst_value.allowed,
        metrics=measures(found.metrics),
        tolerance=tolerance,
    )
    if mismatches.total == 0:
        reason = f"none of {oracle.size} values can be judged: {tolerance.origin}"
        return replace(comparison, verdict=Verdict.SKIPPED, reason=reason)
    max_abs = comparison.max_abs
    if mismatches.first is None or mismatches.most_severe is None:
        reason = f"agrees in {mismatches.total} values, max abs {max_abs:.3g}"
        return _with_power(replace(comparison, reason=reason), power.value, oracle)
    way, finding = mismatches.most_severe
    error, allowed = worst_value.distance, worst_value.allowed
    if way != BEYOND:
        error = math.inf if way.startswith("infinite") else math.nan
        allowed = finding.allowed
    first = mismatch_at(mismatches.first, oracle, actual)
    differs = (
        tolerance.differs_infinitely
        if math.isinf(max_abs)
        else f"{tolerance.differs} by up to {max_abs:.3g}"
    )
    return replace(
        comparison,
        verdict=Verdict.MISMATCH,
        reason=describe(mismatches, oracle, actual, differs),
        mismatches=mismatches.count,
        error=error,
        allowed=allowed,
        first_index=first.index,
        first_expected=first.expected,
        first_actual=first.actual,
        first_ulp=first.ulp,
        error_map=error_map(oracle, actual, tolerance),
    )


def _with_power(comparison: Comparison, power: Power | None, oracle: Array) -> Comparison:
    """Return a comparison that passes, or a mismatch if the result has the opposite direction.

    Where most of the oracle's norm is in values that exceed their tolerance, no right result is at
    an obtuse angle to it. Elsewhere it may be: the rounding errors in ``x - x`` have any sign.
    """
    cosine = comparison.cosine
    if cosine is None or cosine >= 0.0 or not is_above_tolerance(oracle, comparison.tolerance):
        return replace(comparison, power=power)
    reason = f"points away from the oracle (cosine {cosine:.2g}), although each value is within"
    return replace(comparison, verdict=Verdict.MISMATCH, reason=f"{reason} its tolerance")


def compare_all(
    oracles: Sequence[Array],
    actuals: Sequence[Array],
    tolerances: Sequence[Tolerance] | None = None,
) -> list[Comparison]:
    """Compare results with their oracles in order; one too few or too many is a mismatch.

    Raises
    ------
    ValueError
        There is not one tolerance for each oracle.
    """
    if tolerances is not None and len(tolerances) != len(oracles):
        raise ValueError(f"expected {len(oracles)} tolerances, got {len(tolerances)}")
    comparisons = []
    for number, (oracle, actual) in enumerate(zip_longest(oracles, actuals)):
        if oracle is not None and actual is not None:
            tolerance = tolerances[number] if tolerances is not None else None
            comparisons.append(compare(oracle, actual, tolerance))
            continue
        what = "is missing" if actual is None else "is not expected"
        comparisons.append(
            Comparison(
                verdict=Verdict.MISMATCH,
                reason=f"output {number} {what}: expected {len(oracles)} outputs, "
                f"got {len(actuals)}",
                total=0,
                tolerance=tolerance_for(oracle if oracle is not None else actual),
            )
        )
    return comparisons


def worst(comparisons: Iterable[Comparison]) -> Comparison:
    """Return the comparison that decides.

    A mismatch if there is one, otherwise one that judged a value; among these, the one with the
    largest ratio of error and tolerance.

    Raises
    ------
    ValueError
        There is none: zero comparisons are not a pass.
    """
    ranked = list(comparisons)
    if not ranked:
        raise ValueError("no comparison to choose from: zero comparisons are not a pass")
    return max(ranked, key=_severity)


def _severity(comparison: Comparison) -> tuple[bool, bool, float, float]:
    error = comparison.error
    return (
        comparison.verdict is Verdict.MISMATCH,
        comparison.total > 0,
        comparison.ratio,
        math.inf if math.isnan(error) else error,
    )
