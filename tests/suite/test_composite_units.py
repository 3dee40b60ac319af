"""A unit is judged only when the kernels of other units that it runs are right."""

from __future__ import annotations

import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.suite.composite_units import caused_by_kernels

RUNS = {"attention": frozenset({"decode", "rope"})}


@pytest.mark.parametrize(
    ("kernel", "unit"),
    [
        ("mismatch", "mismatch"),
        ("mismatch", "flaky"),
        ("flaky", "mismatch"),
        ("flaky", "flaky"),
        ("crash", "mismatch"),
        ("crash", "timeout"),
        ("build_error", "build_error"),
    ],
)
def test_a_wrong_kernel_explains_the_failure_of_what_runs_it(kernel, unit):
    """However grave the one and the other is; the kernel itself is not explained."""
    verdicts = {"decode": Verdict(kernel), "attention": Verdict(unit), "rope": Verdict.PASS}
    assert caused_by_kernels(verdicts, RUNS) == {
        "attention": f"{unit}; not judged, since it runs decode ({kernel})"
    }


@pytest.mark.parametrize(
    ("kernel", "unit"),
    [
        ("pass", "mismatch"),
        ("skipped", "mismatch"),
        ("inconclusive", "mismatch"),
        ("mismatch", "crash"),
        ("flaky", "timeout"),
        ("mismatch", "pass"),
        ("mismatch", "skipped"),
        ("mismatch", "inconclusive"),
    ],
)
def test_nothing_is_explained_by_what_is_right_or_milder(kernel, unit):
    """A kernel that returns something wrong does not end a process; a unit that passes stands."""
    verdicts = {"decode": Verdict(kernel), "attention": Verdict(unit)}
    assert caused_by_kernels(verdicts, RUNS) == {}


def test_all_wrong_kernels_are_named_and_no_others():
    """A wrong unit that is not run explains nothing; one that was not judged may be absent."""
    verdicts = {
        "other": Verdict.MISMATCH,
        "rope": Verdict.FLAKY,
        "decode": Verdict.CRASH,
        "attention": Verdict.MISMATCH,
    }
    assert caused_by_kernels(verdicts, RUNS) == {
        "attention": "mismatch; not judged, since it runs rope (flaky), decode (crash)"
    }
    assert caused_by_kernels({"attention": Verdict.MISMATCH}, RUNS) == {}
