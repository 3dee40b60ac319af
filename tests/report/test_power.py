from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_results import changed

from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.page import render
from relax_tapml.report.power import power_rows, power_sentences, share_text
from relax_tapml.results.run_result import OutputPower, RunResult
from relax_tapml.results.unit_result import CasePower

SHARP = {"share": 0.01, "terms": 99, "sees": ("zeros", "negated"), "blunt": False}
BLUNT = {"share": math.inf, "terms": 0, "sees": (), "blunt": True}


def entry(case: str = "main-000-case0", **fields: Any) -> CasePower:
    """Return what the tolerance of an output of a case sees."""
    return CasePower(case=case, **{"output": 0, **SHARP, **fields})


def output(number: int, **fields: Any) -> OutputPower:
    """Return what the tolerance of an output of the model sees."""
    return OutputPower(sample="first", output=number, **fields)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (3.15, "315 %"),
        (1e-4, "0.01 %"),
        (math.inf, "inf %"),
        (float("nan"), "-"),
        (None, "-"),
    ],
)
def test_a_share_is_a_percentage(share: float | None, text: str) -> None:
    """A dash where the output has no RMS."""
    assert share_text(share) == text


def test_a_row_says_what_is_seen() -> None:
    """Of a case of a unit and of a sample of the model."""
    sharp, exact, blunt = power_rows([entry(), entry(share=0.0, terms=None), output(1, **BLUNT)])
    assert (sharp.case, sharp.share, sharp.terms) == ("main-000-case0", "1 %", "at most 99")
    assert (sharp.sees, sharp.is_blunt) == ("zeros, negated", False)
    assert exact.terms == "any number of"
    assert (blunt.case, blunt.sees, blunt.terms, blunt.is_blunt) == ("first", "nothing", "", True)


def test_blunt_cases_of_units_that_pass_are_reported(result: RunResult, tmp_path: Path) -> None:
    """Those of a unit that does not pass because of them are reported with it.

    The page lists all, in the row of their unit.
    """
    assert power_sentences(result) == []
    result = changed(
        result,
        {
            0: {"power": (entry(), entry("main-001-case1", **BLUNT))},
            1: {"power": (entry(**BLUNT),), "blunt": (0,), "verdict": Verdict.INCONCLUSIVE},
        },
    )
    (sentence,) = power_sentences(result)
    assert sentence.startswith("1 of 2 outputs of cases and probes has a blunt tolerance (zeros,")
    assert f" {result.units[0].name} " in sentence
    assert result.units[1].name not in sentence
    render(result, out=tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "power: 1 of 2 sharp" in page
    assert "main-001-case1, output 0: <b>blunt</b>, tolerance inf % of the RMS" in page


def test_an_output_of_the_model_that_is_never_judged_sharply_is_named(result: RunResult) -> None:
    """If all are, that is the reason of the run."""
    outputs = (output(0, **SHARP), output(1, **BLUNT), output(1, **BLUNT))
    (sentence,) = power_sentences(replace(result, outputs=outputs))
    assert sentence.startswith("Only blunt tolerances judge output 1 of the model")
    result = replace(result, outputs=outputs[1:])
    assert power_sentences(result) == []
    result = replace(result, verdict=Verdict.PASS, culprits=[], reason="no output is sharp")
    assert power_sentences(result) == ["No output is sharp."]
