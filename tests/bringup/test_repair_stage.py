"""A run goes on with other kernels where units failed, and says what it was before and after."""

from __future__ import annotations

import shutil

import graph_passes
import numpy as np
import pytest
from tiny_model import model
from tiny_runs import only_wrong, printed, run_again, unit_of, verdicts

import relax_tapml
from relax_tapml.bringup import repair_stage
from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.repair import search
from relax_tapml.repair.alternatives.as_lowered import AsLowered
from relax_tapml.report.findings import repair_text
from relax_tapml.results.result_file import read_result
from relax_tapml.suite.script_run import ScriptEnd, run_script

UNIT = "softmax"
PIPELINE = "broken_pipelines:softmax_scale"


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="module")
def repaired(_finished, tmp_path_factory):
    """A run with one broken kernel, and its repair."""
    out = shutil.copytree(_finished, tmp_path_factory.mktemp("repaired") / "run")
    return run_again(out, PIPELINE, repair=True)


def test_the_verdict_is_that_of_the_kernels_that_were_given(repaired):
    assert verdicts(repaired) == only_wrong(UNIT, "mismatch")
    assert (repaired.culprits, int(repaired.exit_code)) == ([UNIT], 1)
    assert read_result(repaired.out).document == repaired.document


def test_a_result_has_before_and_after(repaired):
    units = len(repaired.units)
    after = repaired.repair
    assert (after.verdict, after.culprits) == ("pass", [])
    assert (after.units_passed, after.repaired_passed) == (units - 1, units)
    assert (after.units_on_device, after.repaired_on_device) == (units - 1, units)
    assert after.steps[-1].verdict == "pass"
    unit = unit_of(repaired, UNIT)
    assert unit["blame"]["layer"] == "device pipeline"
    assert unit["repair"]["chosen"] == "as-lowered"
    assert unit["repair"]["verdict"] == "pass"
    assert unit["on_device"]
    assert unit["repair"]["on_device"]
    assert unit["repair"]["call_s"] > 0
    assert unit["repair"]["own_call_s"] > 0
    assert all(one["repair"] is None for one in repaired.document["units"] if one["name"] != UNIT)


def test_terminal_and_page_tell_it(repaired):
    text = printed(repaired)
    assert "Fault: device pipeline: right as the device pipeline got it" in text
    assert f"--device-pipeline {PIPELINE},{repaired.out / 'repairs'}:pipeline" in text
    assert "on the host" not in text
    page = (repaired.out / "report.html").read_text()
    assert "repaired by as-lowered" in page


def test_a_script_beside_the_repair_shows_what_was_wrong(repaired):
    script = repaired.out / "repairs" / "reproduce" / f"{UNIT}.py"
    assert run_script(script, timeout_s=600).end is ScriptEnd.DIFFERS


def test_the_bundle_has_the_repaired_kernel_on_the_device(repaired):
    program = relax_tapml.load(repaired.out / "bundle")
    assert f"/{UNIT}" in (repaired.out / "bundle" / "manifest.json").read_text()
    sample = model().samples[0]
    found, expected = program["main"](*sample.arrays), model().reference(sample)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_nothing_is_looked_for_without_it(folder, repaired):
    """And nothing else of the result changes."""
    plain = run_again(folder, PIPELINE)
    assert plain.repair is None
    assert not (folder / "repairs").exists()
    assert verdicts(plain) == verdicts(repaired)
    assert [step.boundary for step in plain.steps] == [step.boundary for step in repaired.steps]
    assert "keeps this unit on the host" in printed(plain)


def test_a_run_without_failures_looks_for_nothing(finished):
    result = read_result(finished)
    assert result.repair is None
    assert result.seconds.repair == 0


def test_a_resumed_run_does_not_look_again(repaired, tmp_path, monkeypatch):
    out = shutil.copytree(repaired.out, tmp_path / "run")
    tried = []
    monkeypatch.setattr(search, "_replayed", lambda *args: tried.append(args))
    again = run_again(out, PIPELINE, repair=True)
    assert tried == []
    assert again.repair.verdict == "pass"
    assert unit_of(again, UNIT)["repair"] == unit_of(repaired, UNIT)["repair"]


def test_repairs_go_with_the_kernels_that_were_wrong(repaired, tmp_path):
    out = shutil.copytree(repaired.out, tmp_path / "run")
    again = run_again(out, None, repair=True)
    assert (again.verdict, again.repair) == ("pass", None)
    assert not (out / "repairs").exists()


def test_a_unit_without_a_right_kernel_stays_on_the_host(folder, monkeypatch):
    monkeypatch.setattr(AsLowered, "make", lambda _self, _kernel: None)
    found = run_again(folder, PIPELINE, repair=True, repair_budget_s=1e-9)
    unit = unit_of(found, UNIT)
    assert unit["repair"]["chosen"] == ""
    assert unit["repair"]["unmade"]
    assert all("not tried" in why for why in unit["repair"]["unmade"].values())
    assert not unit["on_device"]
    assert found.repair.verdict == "mismatch"
    assert found.repair.pipeline == ""
    assert "No repair was found" in printed(found)
    assert not (folder / "repairs").exists()


def test_a_pipeline_that_changes_functions_is_judged_with_the_repair(folder):
    """The kernel that is wrong beside it is right with it; a wrong pass stays wrong."""
    found = run_again(folder, graph_passes.kernel_and_graph, repair=True)
    assert (found.culprits, found.repair.verdict) == (["layer_norm"], "pass")
    found = run_again(folder, graph_passes.wrong_in_the_middle, repair=True)
    assert found.culprits == ["layer_norm", "pass:SkipSoftmax"]
    assert (found.repair.verdict, found.repair.culprits) == ("mismatch", ["pass:SkipSoftmax"])


@pytest.mark.parametrize("stage", ["repair_units", "migrate"])
def test_a_device_that_is_lost_meanwhile_keeps_what_was_found(folder, monkeypatch, stage):
    def lost(*_args, **_options):
        raise DeviceUnavailable("nobody is there")

    monkeypatch.setattr(repair_stage, stage, lost)
    found = run_again(folder, PIPELINE, repair=True)
    assert (found.verdict, found.culprits) == ("mismatch", [UNIT])
    assert found.repair.verdict == "inconclusive"
    assert "nobody is there" in repair_text(found, folder)
    assert not unit_of(found, UNIT)["on_device"]


def test_a_budget_without_seconds_is_refused(folder):
    with pytest.raises(UsageError, match="repair-budget"):
        run_again(folder, PIPELINE, repair=True, repair_budget_s=0)
