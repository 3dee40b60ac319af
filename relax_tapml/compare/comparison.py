"""One result against its oracle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from relax_tapml.compare.difference import absolute_difference
from relax_tapml.compare.dtypes import is_float
from relax_tapml.compare.max_abs import max_abs
from relax_tapml.compare.max_rel import max_rel
from relax_tapml.compare.mismatches import BEYOND, mismatches
from relax_tapml.compare.nonfinite import NonFinite, count_nonfinite
from relax_tapml.compare.tolerance import Tolerance, tolerance_for
from relax_tapml.compare.ulp import max_ulp
from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Array


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What comparing found.

    Parameters
    ----------
    verdict
        ``PASS`` or ``MISMATCH``.
    reason
        One short sentence for people.
    total
        How many values were compared: 0 for an empty tensor, and if shape or dtype differ.
    mismatches
        How many of them differ by more than they may.
    error
        The number for a table: ``max_abs``, or NaN or infinity if the gravest mismatch is a value
        that is not finite on one side.
    max_abs, max_rel
        The largest differences of values that are both finite; see the metrics of these names.
    max_ulp
        The same in units in the last place; None for integers.
    first_index, first_expected, first_actual
        The first mismatch in row-major order, with its values as Python numbers; None without one.
    nonfinite
        How many values are NaN or infinite.
    tolerance
        What the values were held to.
    """

    verdict: Verdict
    reason: str
    total: int
    mismatches: int = 0
    error: float = 0.0
    max_abs: float = 0.0
    max_rel: float = 0.0
    max_ulp: int | None = None
    first_index: tuple[int, ...] | None = None
    first_expected: float | int | bool | None = None
    first_actual: float | int | bool | None = None
    nonfinite: NonFinite = field(default_factory=NonFinite)
    tolerance: Tolerance


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
        The oracle's dtype is none of these.
    """
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
    difference = absolute_difference(oracle, actual)
    findings = list(mismatches(difference, oracle, actual, tolerance))
    differing = np.zeros(oracle.shape, bool)
    for _, mask in findings:
        differing |= mask
    first = _first(differing)
    largest = max_abs(difference)
    error = largest
    reason = f"agrees in {oracle.size} values, max abs {largest:.3g}"
    if findings:
        what, mask = findings[0]
        reason = _describe(what, mask, oracle, actual, largest)
        if what != BEYOND:
            error = math.inf if what.startswith("infinite") else math.nan
    return Comparison(
        verdict=Verdict.MISMATCH if findings else Verdict.PASS,
        reason=reason,
        total=oracle.size,
        mismatches=int(differing.sum()),
        error=error,
        max_abs=largest,
        max_rel=max_rel(difference, oracle),
        max_ulp=max_ulp(oracle, actual) if is_float(oracle.dtype) else None,
        first_index=first,
        first_expected=None if first is None else _number(oracle[first]),
        first_actual=None if first is None else _number(actual[first]),
        nonfinite=count_nonfinite(oracle, actual),
        tolerance=tolerance,
    )


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
    """Return the comparison that decides: a mismatch if there is one, then the largest error.

    Raises
    ------
    ValueError
        There is none: zero comparisons are not a pass.
    """
    ranked = list(comparisons)
    if not ranked:
        raise ValueError("no comparison to choose from: zero comparisons are not a pass")
    return max(ranked, key=_badness)


def _badness(comparison: Comparison) -> tuple[bool, float]:
    error = comparison.error
    return comparison.verdict is Verdict.MISMATCH, math.inf if math.isnan(error) else error


def _first(mask: Array) -> tuple[int, ...] | None:
    if not mask.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))


def _number(value: Any) -> float | int | bool:
    # ml_dtypes scalars have no item() that gives a Python number.
    if value.dtype.kind in "biuf":
        number: float | int | bool = value.item()
        return number
    return float(value) if is_float(value.dtype) else int(value)


def _describe(what: str, mask: Array, oracle: Array, actual: Array, largest: float) -> str:
    first = _first(mask)
    count = f"{int(mask.sum())} of {mask.size} values, first at {list(first or ())}"
    if what != BEYOND:
        return f"{what}, {count}"
    expected, got = _number(oracle[first]), _number(actual[first])
    return f"differs by up to {largest:.3g}, {count}: expected {expected:.6g}, got {got:.6g}"
