"""What counts as a change of a unit."""

import math

import pytest

from relax_tapml.errors import ExitCode
from relax_tapml.results.build_comparison import BuildResult, BuiltUnit, Change, UnitChange
from relax_tapml.results.unit_result import CaseResult, OutputResult, ReplayedUnit
from relax_tapml.two_builds.changes import built_unit, can_be_timed, change_of, exit_code

BUILDS = (
    BuildResult(name="A", target="llvm", session="inline", python="p"),
    BuildResult(name="B", target="llvm", session="inline", python="p"),
)


def unit(verdict, *pairs, blunt=()):
    outputs = tuple(
        OutputResult(
            verdict="pass", error=error, tolerance=tolerance, tolerance_origin="", metrics={}
        )
        for error, tolerance in pairs
    )
    case = CaseResult(name="c", site="s", verdict="pass", outputs=outputs)
    return ReplayedUnit(name="u", verdict=verdict, blunt=blunt, cases=(case,))


def verdict(text):
    from relax_tapml.compare.verdict import Verdict

    # `blunt` has passed all comparisons, none of which could have failed.
    if text == "blunt":
        return unit(Verdict.INCONCLUSIVE, blunt=(0,))
    return None if text == "none" else unit(Verdict(text))


@pytest.mark.parametrize(
    ("first", "second", "change"),
    [
        ("pass", "pass", "unchanged"),
        ("pass", "mismatch", "broken"),
        ("pass", "build_error", "broken"),
        ("blunt", "crash", "broken"),
        ("blunt", "blunt", "unchanged"),
        ("pass", "blunt", "unchanged"),
        ("timeout", "pass", "fixed"),
        ("mismatch", "crash", "otherwise wrong"),
        ("mismatch", "mismatch", "unchanged"),
        ("flaky", "flaky", "unchanged"),
        ("pass", "flaky", "open"),
        ("flaky", "mismatch", "open"),
        ("inconclusive", "inconclusive", "open"),
        ("inconclusive", "mismatch", "open"),
        ("pass", "skipped", "open"),
        ("skipped", "skipped", "unchanged"),
        ("pass", "none", "open"),
    ],
)
def test_a_change_is_decided_by_both_verdicts(first, second, change):
    assert change_of(verdict(first), verdict(second)) == change


@pytest.mark.parametrize(
    ("first", "second", "is_timed"),
    [
        ("pass", "pass", True),
        ("mismatch", "blunt", True),
        ("pass", "crash", False),
        ("flaky", "pass", False),
        ("inconclusive", "pass", False),
        ("skipped", "skipped", False),
        ("pass", "none", False),
    ],
)
def test_what_returns_results_in_both_is_timed(first, second, is_timed):
    assert can_be_timed(verdict(first), verdict(second)) is is_timed


@pytest.mark.parametrize(
    ("pairs", "share"),
    [
        ([(0.5, 1.0), (3.0, 4.0)], 0.75),
        ([(0.0, 0.0)], 0.0),
        ([(0.1, 0.0), (0.0, 1.0)], math.inf),
        ([(None, None)], None),
    ],
)
def test_the_error_is_the_largest_share_of_what_is_allowed(pairs, share):
    assert built_unit(unit("pass", *pairs)).share == share


def changed(change, *verdicts, is_regression=False):
    built = tuple(None if one is None else BuiltUnit(verdict=one) for one in verdicts)
    return UnitChange(name="u", units=built, change=change, is_regression=is_regression)


def test_the_exit_code_is_that_of_the_worst():
    from relax_tapml.compare.verdict import Verdict

    same = changed(Change.UNCHANGED, Verdict.PASS, Verdict.PASS)
    broken = changed(Change.BROKEN, Verdict.PASS, Verdict.CRASH, is_regression=True)
    still_open = changed(Change.OPEN, Verdict.PASS, None)
    skipped = changed(Change.UNCHANGED, Verdict.SKIPPED, Verdict.SKIPPED)
    lost = (BUILDS[0], BuildResult(**{**vars(BUILDS[1]), "reason": "gone"}))
    assert exit_code(BUILDS, [same, skipped]) is ExitCode.PASS
    assert exit_code(BUILDS, [same, still_open]) is ExitCode.INCONCLUSIVE
    assert exit_code(lost, [same]) is ExitCode.INCONCLUSIVE
    assert exit_code(lost, [still_open, broken]) is ExitCode.MISMATCH
    assert exit_code(BUILDS, [skipped]) is ExitCode.INCONCLUSIVE
    assert exit_code(BUILDS, []) is ExitCode.INCONCLUSIVE
