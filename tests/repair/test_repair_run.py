"""Units of a run that failed get kernels that are right, as a pass that any build can apply."""

from __future__ import annotations

import dataclasses
import json
import shutil

import broken_pipelines
import pytest
import tvm
import tvm_ffi
from tiny_runs import run_again, verdicts

from relax_tapml.bringup import repair_run
from relax_tapml.cli.main import main
from relax_tapml.errors import UsageError
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.repair import search
from relax_tapml.repair.alternative import Alternative, Layer

UNIT = "softmax"


@pytest.fixture
def failed(finished, tmp_path):
    """A run in which a pipeline breaks one kernel, ``softmax_scale`` by default."""

    def run(*pipelines, session="inline"):
        out = shutil.copytree(finished, tmp_path / "run")
        pipeline = ",".join(f"broken_pipelines:{one}" for one in pipelines or ("softmax_scale",))
        run_again(out, pipeline, session=session)
        return out

    return run


def test_a_repair_is_found_written_and_right_in_the_next_run(failed, capsys):
    """The layer is named with its evidence, and nothing else of the module changes."""
    out = failed()
    assert main(["repair", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{UNIT}: mismatch, repaired by as-lowered" in printed
    assert "fault: device pipeline: right as the device pipeline got it" in printed
    passes = f"broken_pipelines:softmax_scale,{out / 'repairs'}:pipeline"
    assert f"--device-pipeline {passes}" in printed
    assert "1.01" in (out / "repairs" / f"{UNIT}.diff").read_text()
    assert "1.01" not in (out / "repairs" / f"{UNIT}.py").read_text()
    assert set(verdicts(run_again(out, passes)).values()) == {"pass"}


def test_a_repair_replaces_only_the_kernel_that_was_wrong(failed):
    out = failed()
    repair_run.repair_run(out, out / "repairs")
    pipeline = load_pipeline(f"{out / 'repairs'}:pipeline")
    lowered = tvm.ir.load_json((out / "lowered.json").read_text())
    assert tvm_ffi.structural_equal(pipeline(lowered), lowered)
    wrong = broken_pipelines.breaks(UNIT, broken_pipelines.scale)(lowered)
    assert tvm_ffi.structural_equal(pipeline(wrong)[UNIT], lowered[UNIT])
    other = broken_pipelines.breaks(UNIT, broken_pipelines.off_by_half)(lowered)
    assert tvm_ffi.structural_equal(pipeline(other)[UNIT], other[UNIT])


@pytest.mark.parametrize("fault", ["unbuildable", "abort"])
def test_kernels_that_do_not_build_or_run_are_repaired(failed, fault, capsys):
    out = failed(f"{UNIT}_{fault}", session="process")
    assert main(["repair", str(out), UNIT, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["units"]
    assert (found["unit"], found["chosen"]) == (UNIT, "as-lowered")
    assert found["blame"]["layer"] == "device pipeline"
    assert [one["verdict"] for one in found["tried"]] == ["pass"]


class Wrong(Alternative):
    """Another kernel that is wrong, too."""

    name, layer, text = "wrong", Layer.SCHEDULE, "with another fault"

    def make(self, kernel):
        return broken_pipelines.off_by_half(kernel.lowered)


class Raises(Alternative):
    """What a schedule raises is no verdict."""

    name, layer, text = "raises", Layer.OPTION, "never"

    def make(self, kernel):
        raise ValueError("no such loop")


def test_a_unit_without_a_right_alternative_has_none(failed, monkeypatch, capsys):
    """Each that was tried is told, and what could not be made."""
    out = failed()
    monkeypatch.setattr(
        search.repair_unit,
        "__kwdefaults__",
        {**search.repair_unit.__kwdefaults__, "alternatives": (Raises(), Wrong())},
    )
    assert main(["repair", str(out), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["units"]
    assert found["chosen"] == ""
    assert found["blame"] == {
        "layer": "code generation or driver",
        "text": "wrong in every way that was tried: with another fault",
    }
    assert "no such loop" in found["unmade"]["raises"]
    assert not (out / "repairs").exists()


class Right(Alternative):
    """The right kernel, with a mark that makes it another one."""

    layer, text = Layer.SCHEDULE, "as it was"

    def __init__(self, name):
        self.name = name

    def make(self, kernel):
        return kernel.lowered.with_attr("mark", self.name)


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"first": 3.0, "second": 1.0}, "second"),
        ({"first": 1.05, "second": 1.0}, "first"),  # About the same: what changes less.
        ({"second": 1.0}, "first"),  # Not all could be timed.
        ({}, "first"),
    ],
)
def test_the_fastest_that_passes_is_chosen(failed, monkeypatch, times, chosen):
    out = failed()
    given = {"alternatives": (Wrong(), Right("first"), Right("second"))}
    monkeypatch.setattr(
        search.repair_unit, "__kwdefaults__", {**search.repair_unit.__kwdefaults__, **given}
    )
    monkeypatch.setattr(search, "call_times", lambda *_args, **_options: {**times, "": 2.0})
    (found,) = repair_run.repair_run(out, out / "repairs")
    assert (found.chosen, found.call_s) == (chosen, 2.0)
    assert [one.call_s for one in found.tried] == [None, times.get("first"), times.get("second")]


def test_a_unit_that_is_right_needs_no_repair(finished, capsys):
    assert main(["repair", str(finished), UNIT]) == 0
    assert f"{UNIT}: pass alone" in capsys.readouterr().out
    assert main(["repair", str(finished)]) == 0
    assert "no unit of the run failed" in capsys.readouterr().out


def test_a_culprit_that_no_case_runs_alone_is_told(failed, monkeypatch, capsys):
    """It was wrong in the run, so the command does not end as if nothing were."""
    out = failed()
    result = dataclasses.replace(repair_run.read_result(out), culprits=["pass:Mine"])
    monkeypatch.setattr(repair_run, "read_result", lambda _folder: result)
    assert main(["repair", str(out)]) == 3
    assert "pass:Mine: skipped alone" in capsys.readouterr().out


def test_units_that_are_not_there_are_refused(finished):
    with pytest.raises(UsageError, match="no_such_unit"):
        repair_run.repair_run(finished, finished / "repairs", units=["no_such_unit"])
