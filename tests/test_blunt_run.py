"""A run claims what it has judged, and says what it has not."""

from __future__ import annotations

import json

import broken_pipelines
import numpy as np
import pytest
from broken_pipelines import breaks
from edited_suite import widen
from tiny_model import UNITS
from tiny_runs import printed, run_again, unit_of

from relax_tapml.bringup import alone
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.errors import ExitCode


def again(finished, pipeline=None):
    """Continue a finished run whose units are to be replayed anew."""
    return run_again(finished, pipeline, repeat=2)


def test_a_run_with_power_says_so_case_by_case(finished):
    """What was recorded and what was probed, of every unit and of the model."""
    document = json.loads((finished / "result.json").read_text())
    for unit in document["units"]:
        cases = {one["case"] for one in unit["power"]}
        assert len(cases) == unit["cases"] + unit["probes"]
        assert len({one["case"] for one in unit["power"] if one["probe"]}) == unit["probes"]
        assert unit["blunt"] == []
        assert any(not one["blunt"] for one in unit["power"])
        for one in unit["power"]:
            assert set(one["sees"]) >= {"zeros", "negated", "scaled by 1.1"}
    assert [(one["sample"], one["output"]) for one in document["outputs"]] == [
        (sample, output) for sample in ("first", "second") for output in range(3)
    ]
    assert not any(one["blunt"] for one in document["outputs"])
    assert "power: 6 of 6 sharp" in (finished / "report.html").read_text()


def test_a_unit_with_blunt_cases_alone_stays_on_the_host(finished, monkeypatch):
    """It is inconclusive with the reason, the others move; a resumed run says the same."""
    widen(finished / "tests", "softmax")
    result = again(finished)
    assert (result.verdict, result.culprits) == ("inconclusive", [])
    assert result.exit_code is ExitCode.INCONCLUSIVE
    unit = unit_of(result, "softmax")
    assert (unit["verdict"], unit["alone"], unit["blunt"]) == ("inconclusive", "inconclusive", [0])
    assert all(one["blunt"] and one["share"] > 1 for one in unit["power"])
    on_device = {unit["name"]: unit["on_device"] for unit in result.document["units"]}
    assert on_device == {name: name != "softmax" for name in UNITS}
    # Its kernel is the source's: what it may be off blurs no output of the model.
    assert result.document["steps"][-1]["verdict"] == "pass"
    assert not any(one["blunt"] for one in result.document["outputs"])
    told = printed(result)
    assert "Inconclusive on llvm: 1 of 8 units has an output that only blunt tolerances" in told
    assert "softmax: no case can tell right from wrong: zeros would pass" in told
    page = (finished / "report.html").read_text()
    assert "<b>blunt</b>" in page
    assert "softmax: no case can tell right from wrong" in page

    monkeypatch.setattr(alone, "replay", None)
    resumed = again(finished)
    assert resumed.verdict == "inconclusive"
    assert resumed.document["reason"] == result.document["reason"]
    assert resumed.document["units"] == result.document["units"]


@pytest.fixture
def blind(monkeypatch):
    """Make every tolerance of a model's outputs too large to see anything."""
    wide = RuleTolerance(atol=1e4, rtol=0.0, origin="test")
    monkeypatch.setattr(
        "relax_tapml.bringup._source.output_tolerances",
        lambda outputs, _runs: [wide for _ in outputs],
    )


@pytest.mark.usefixtures("blind")
def test_a_migration_that_no_output_judges_accepts_nothing(finished):
    """Each unit is judged alone, which is ground for a pass; that they are not together is said."""
    result = again(finished)
    assert (result.verdict, result.culprits) == ("pass", [])
    assert {unit["verdict"] for unit in result.document["units"]} == {"pass"}
    assert not any(unit["on_device"] for unit in result.document["units"])
    assert {step["verdict"] for step in result.document["steps"]} == {"inconclusive"}
    assert len(result.document["steps"]) == len(UNITS) + 1
    assert all(one["blunt"] for one in result.document["outputs"])
    told = printed(result)
    assert "All 8 units pass alone on llvm; none has been moved." in told
    assert "No output of the model can tell right from wrong (of 'first', output" in told
    assert "so no step is accepted and nothing stays on the device" in told
    boundary = json.loads((finished / "bundle" / "manifest.json").read_text())["boundary"]
    assert not any(boundary[name] for name in ("units", "kinds", "layers", "functions", "sites"))


@pytest.mark.usefixtures("blind")
def test_neither_the_units_nor_the_model_judged_is_inconclusive(finished):
    """Both are said."""
    widen(finished / "tests", "softmax")
    result = again(finished)
    assert (result.verdict, result.exit_code) == ("inconclusive", ExitCode.INCONCLUSIVE)
    told = printed(result)
    assert "1 of 8 units has an output that only blunt tolerances judge" in told
    assert "no output of the model can tell right from wrong" in told


@pytest.mark.usefixtures("blind")
def test_a_culprit_is_named_although_no_output_judges_the_others(finished):
    """What is wrong alone is wrong; that the rest is open is said beside it."""
    result = again(finished, breaks("softmax", broken_pipelines.scale))
    assert (result.verdict, result.culprits) == ("mismatch", ["softmax"])
    assert result.exit_code is ExitCode.MISMATCH
    assert "no output of the model can tell right from wrong" in printed(result)


def test_an_output_that_is_never_judged_sharply_is_named(finished, monkeypatch):
    """Others are, so the run passes, with that reservation."""
    from relax_tapml.bringup import _source as source

    def widened(outputs, runs):
        found = source_tolerances(outputs, runs)
        found[1] = RuleTolerance(atol=1e4, rtol=0.0, origin="test")
        return found

    source_tolerances = source.output_tolerances
    monkeypatch.setattr(source, "output_tolerances", widened)
    result = again(finished)
    assert result.verdict == "pass"
    assert [one["output"] for one in result.document["outputs"] if one["blunt"]] == [1, 1]
    assert "Only blunt tolerances judge output 1 of the model" in printed(result)
    assert np.isfinite(result.document["steps"][-1]["error"])
