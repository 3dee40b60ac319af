"""What counts as a change of a unit, and as a regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relax_tapml.compare.verdict import WITHOUT_RESULT, WRONG, Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.results.build_comparison import BuildResult, BuiltUnit, Change, UnitChange
from relax_tapml.results.unit_result import ReplayedUnit

_JUDGED = frozenset({Verdict.PASS, *WRONG})


def built_unit(unit: ReplayedUnit) -> BuiltUnit:
    """Return what is kept of a replayed unit."""
    shares = [
        _share(output.error, output.tolerance) for case in unit.cases for output in case.outputs
    ]
    known = [share for share in shares if share is not None]
    return BuiltUnit(
        verdict=unit.verdict,
        reason=unit.reason,
        error=unit.error,
        tolerance=unit.tolerance,
        share=max(known, key=lambda s: math.inf if math.isnan(s) else s) if known else None,
    )


def _share(error: float | None, tolerance: float | None) -> float | None:
    if error is None or tolerance is None:
        return None
    if error == 0:
        return 0.0
    return math.inf if tolerance == 0 else error / tolerance


def passed(unit: ReplayedUnit) -> bool:
    """Whether every comparison passed, although none of them may have been sharp."""
    return unit.verdict is Verdict.PASS or (
        unit.verdict is Verdict.INCONCLUSIVE and bool(unit.blunt)
    )


def change_of(first: ReplayedUnit | None, second: ReplayedUnit | None) -> Change:
    """Return how a verdict changed; None is a unit of a build that was not replayed."""
    if first is None or second is None:
        return Change.OPEN
    if passed(first) and passed(second):
        return Change.UNCHANGED
    if first.verdict is second.verdict:
        # What no build judges because no device was left is open; what was not carved is not.
        return Change.OPEN if first.verdict is Verdict.INCONCLUSIVE else Change.UNCHANGED
    if Verdict.FLAKY in (first.verdict, second.verdict):
        return Change.OPEN
    if passed(first) and second.verdict in WRONG:
        return Change.BROKEN
    if first.verdict in WRONG and passed(second):
        return Change.FIXED
    if {first.verdict, second.verdict} <= WRONG:
        return Change.OTHERWISE_WRONG
    return Change.OPEN


def can_be_timed(first: ReplayedUnit | None, second: ReplayedUnit | None) -> bool:
    """Whether a unit returns results in both builds."""
    untimed = WITHOUT_RESULT | {Verdict.SKIPPED, Verdict.FLAKY}
    return (
        first is not None
        and second is not None
        and not {first.verdict, second.verdict} & untimed
        and all(unit.verdict in _JUDGED or unit.blunt for unit in (first, second))
    )


def exit_code(builds: Sequence[BuildResult], units: Sequence[UnitChange]) -> ExitCode:
    """Return 1 for a regression; 3 for what was not judged, or if nothing was; otherwise 0."""
    if any(unit.is_regression for unit in units):
        return ExitCode.MISMATCH
    if any(build.reason for build in builds) or any(u.change is Change.OPEN for u in units):
        return ExitCode.INCONCLUSIVE
    # A unit that no case judges sharply shows nothing, and one that was not carved neither.
    judged = [u for u in units if all(one and one.verdict in _JUDGED for one in u.units)]
    return ExitCode.PASS if judged else ExitCode.INCONCLUSIVE
