from __future__ import annotations

import pytest

from relax_tapml.compare.power import EXACT
from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.unit_result import PowerResult, UnitResult, culprits


def test_without_a_judged_value_nothing_is_detected():
    """Such an output is blunt."""
    assert PowerResult.of(None) == PowerResult(share=None, terms=0, sees=(), blunt=True)
    exact = PowerResult.of(EXACT)
    assert (exact.share, exact.terms, exact.blunt) == (0.0, None, False)
    assert "zeros" in exact.sees


@pytest.mark.parametrize(
    ("verdict", "alone", "expected"),
    [
        ("mismatch", Verdict.PASS, True),
        ("flaky", Verdict.PASS, True),
        ("crash", Verdict.CRASH, False),
        ("pass", Verdict.PASS, False),
        ("mismatch", None, False),
    ],
)
def test_a_unit_fails_in_context_only_if_it_passes_alone(verdict, alone, expected):
    """What was not tried alone is not claimed."""
    unit = UnitResult(name="a", verdict=Verdict(verdict), alone=alone)
    assert unit.is_in_context_only is expected


def test_what_is_wrong_is_a_culprit():
    """In order; what is open or skipped is none."""
    units = [UnitResult(name=str(verdict), verdict=verdict) for verdict in Verdict]
    assert culprits(units) == ["crash", "timeout", "mismatch", "flaky", "build_error"]
