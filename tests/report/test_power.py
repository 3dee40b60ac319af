from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relax_tapml.report.page import render
from relax_tapml.report.power import power_rows, power_sentences, share_text


def entry(case: str = "main-000-case0", **fields: Any) -> dict[str, Any]:
    """Return what the tolerance of an output of a case sees, in result.json."""
    sharp = {"share": 0.01, "terms": 99, "sees": ["zeros", "negated"], "blunt": False}
    return {"case": case, "probe": False, "output": 0, **sharp, **fields}


BLUNT = {"share": "inf", "terms": 0, "sees": [], "blunt": True}


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (3.15, "315 %"), (1e-4, "0.01 %"), ("inf", "inf %"), ("nan", "-"), (None, "-")],
)
def test_a_share_is_a_percentage(share: float | str | None, text: str) -> None:
    """As the document has it; a dash where the output has no RMS."""
    assert share_text(share) == text


def test_a_row_says_what_is_seen() -> None:
    """Of a case of a unit and of a sample of the model."""
    sharp, exact, blunt = power_rows(
        [entry(), entry(share=0.0, terms=None), {"sample": "first", "output": 1, **BLUNT}]
    )
    assert (sharp.case, sharp.share, sharp.terms) == ("main-000-case0", "1 %", "99")
    assert (sharp.sees, sharp.is_blunt) == ("zeros, negated", False)
    assert exact.terms == "any number"
    assert (blunt.case, blunt.sees, blunt.is_blunt) == ("first", "nothing", True)


def test_blunt_cases_of_units_that_pass_are_told(result: dict[str, Any], tmp_path: Path) -> None:
    """Those of a unit that does not pass for them are told with it; without any there is nothing.

    The page lists all, in the row of their unit.
    """
    assert power_sentences(result) == []
    first, second = result["units"][:2]
    first["power"] = [entry(), entry("main-001-case1", **BLUNT)]
    second.update(power=[entry(**BLUNT)], blunt=[0], verdict="inconclusive")
    (said,) = power_sentences(result)
    assert said.startswith("1 of 2 outputs of cases and probes is judged bluntly (zeros,")
    assert said.endswith(f"no ground for a pass, but {first['name']} has sharper ones.")
    render(result, out=tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "power: 1 of 2 sharp" in page
    assert "main-001-case1, output 0: <b>blunt</b>, tolerance inf % of the RMS" in page


def test_an_output_of_the_model_that_is_never_judged_is_told(result: dict[str, Any]) -> None:
    """If all are, the reason of the run says so."""
    result["outputs"] = [entry(), entry(output=1, **BLUNT), entry(output=1, **BLUNT)]
    (said,) = power_sentences(result)
    assert said.startswith("Only blunt tolerances judge output 1 of the model")
    result["outputs"] = [entry(**BLUNT)]
    assert power_sentences(result) == []
    result.update(verdict="pass", culprits=[], reason="no output can tell")
    assert power_sentences(result) == ["No output can tell."]
