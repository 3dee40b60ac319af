"""A device's pipeline may change Relax functions: its module is run as a whole, its pass named."""

from __future__ import annotations

import re
import shutil

import broken_pipelines
import graph_passes
import pytest
import tvm
from graph_passes import two_functions
from tiny_model import UNITS
from tiny_runs import printed, run_again, verdicts
from tvm import relax

import relax_tapml
from relax_tapml import bring_up
from relax_tapml.errors import ExitCode, LoweringError, UsageError


def test_a_wrong_change_of_main_is_named_by_its_pass(finished, monkeypatch):
    """The units are right, the model is not; what the pass changed is said. Resuming keeps it."""
    result = run_again(finished, graph_passes.skip_softmax)
    assert (result.verdict, result.culprits) == ("mismatch", ["pass:SkipSoftmax"])
    assert result.exit_code is ExitCode.MISMATCH
    assert verdicts(result) == dict.fromkeys(UNITS, "pass")
    found = result.document["pipeline"]
    assert (found["verdict"], found["passes"], found["functions"]) == (
        "mismatch",
        ["SkipSoftmax"],
        ["main"],
    )
    last = result.document["steps"][-1]
    assert (last["purpose"], last["verdict"]) == ("pipeline", "mismatch")
    text = printed(result)
    assert "No unit is wrong on llvm, but the device's pipeline is: pass:SkipSoftmax." in text
    assert "with what pass 'SkipSoftmax' changes in main the model fails on 'first'" in text
    assert re.search(r"\(error \S+, tolerance \S+\)", text)
    assert "-k" not in text
    assert "pass:SkipSoftmax" in (finished / "report.html").read_text()

    def refuse(*_args, **_options):
        raise AssertionError("judged again")

    monkeypatch.setattr("relax_tapml.bringup.migrate_model.judge_pipeline", refuse)
    again = run_again(finished, graph_passes.skip_softmax)
    assert again.culprits == ["pass:SkipSoftmax"]
    assert again.document["pipeline"] == found


@pytest.mark.parametrize(
    ("pipeline", "skipped"),
    [
        (graph_passes.lowers, set()),
        (graph_passes.in_place, set()),
        (relax.get_pipeline("zero"), {"fused_gelu"}),
        (graph_passes.renames("Renames"), {"softmax"}),
        (graph_passes.other_order, {"matmul"}),
    ],
    ids=["lowers", "in_place", "fuses", "renames", "other_order"],
)
def test_a_right_change_of_main_passes(finished, pipeline, skipped):
    """It is run as a whole, which the result says; units it replaced are not judged alone."""
    result = run_again(finished, pipeline)
    assert (result.verdict, result.culprits) == ("pass", [])
    assert {name for name, verdict in verdicts(result).items() if verdict != "pass"} == skipped
    assert result.document["pipeline"]["verdict"] == "pass"
    assert result.document["steps"][-1]["purpose"] == "pipeline"
    assert "the module that it returned was run as a whole and agrees with llvm" in printed(result)


@pytest.mark.parametrize(
    "pipeline",
    [
        relax.transform.DeadCodeElimination(),
        relax.transform.DataflowUseInplaceCalls(),
        broken_pipelines.breaks("sum", lambda kernel: kernel.with_attr("mine", 1)),
    ],
    ids=["dead_code", "in_place", "kernel"],
)
def test_what_changes_no_relax_function_costs_no_step(finished, pipeline):
    result = run_again(finished, pipeline)
    assert (result.verdict, result.document["pipeline"]) == ("pass", None)
    assert {step["purpose"] for step in result.document["steps"]} == {"baseline", "move"}


def test_a_call_of_another_kernel_of_the_same_type_is_a_change(tmp_path):
    """Both kernels are right, and the wrong one is called."""
    pipeline = graph_passes.one_for_other
    result = bring_up(
        graph_passes.alike(), session="inline", out=tmp_path, device_pipeline=pipeline
    )
    assert result.culprits == ["pass:OneForOther"]


def test_what_is_written_over_an_input_is_seen(tmp_path):
    """The outputs are right; whoever calls the function gets a tensor back that is not."""
    result = bring_up(
        graph_passes.alike(),
        session="inline",
        out=tmp_path,
        device_pipeline=graph_passes.over_input,
    )
    assert result.culprits == ["pass:OverInput"]
    assert "it writes to input 0 of main, which it may only read" in printed(result)


def test_a_wrong_pass_among_others_is_found(finished):
    """Beside a kernel that is wrong itself, which is a culprit of its own and put back for it."""
    result = run_again(finished, graph_passes.wrong_in_the_middle)
    assert result.culprits == ["layer_norm", "pass:SkipSoftmax"]
    assert result.document["pipeline"]["restored"] == ["layer_norm"]
    text = printed(result)
    assert "1 of 8 units is wrong on llvm: layer_norm." in text
    assert "with what pass 'SkipSoftmax' changes in main" in text


def test_passes_that_cannot_be_run_apart_are_named_together(finished):
    """Between them the module is unfinished, so nobody knows which of them is wrong."""
    result = run_again(finished, graph_passes.wrong_in_two_halves)
    assert result.culprits == ["pass:Begins", "pass:Finishes"]
    assert "the passes 'Begins', 'Finishes', which cannot be run apart," in printed(result)


def test_a_wrong_kernel_beside_a_right_change_of_main_is_the_only_culprit(finished):
    result = run_again(finished, graph_passes.kernel_and_graph)
    assert result.culprits == ["layer_norm"]
    assert result.document["pipeline"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("fault", "verdict"), [("scale", "mismatch"), ("unbuildable", "build_error")]
)
def test_a_kernel_that_is_no_unit_is_found_through_its_pass(finished, fault, verdict):
    """A pass has put a kernel of its own in place of a unit's."""
    pipeline = graph_passes.renames("Replaces", broken_pipelines.FAULTS[fault])
    result = run_again(finished, pipeline)
    assert (result.verdict, result.culprits) == (verdict, ["pass:Replaces"])
    assert result.document["pipeline"]["kernels"] == ["softmax_v2"]
    assert verdicts(result)["softmax"] == "skipped"
    skipped = {skip["site"].split("/")[-1]: skip["reason"] for skip in result.document["skipped"]}
    assert "judged with the whole module only" in skipped["softmax"]


@pytest.mark.parametrize(
    ("pipeline", "functions"),
    [
        (graph_passes.swap_in_both, ["first", "second"]),
        (graph_passes.one_of_two, ["second"]),
    ],
    ids=["both", "one"],
)
def test_the_functions_that_are_wrong_are_named(tmp_path, pipeline, functions):
    """Of those that a pass changed, with each of the others put back."""
    result = bring_up(two_functions(), session="inline", out=tmp_path, device_pipeline=pipeline)
    found = result.document["pipeline"]
    assert result.culprits == [f"pass:{pipeline.info.name}"]
    assert sorted(found["functions"]) == functions
    assert sorted(found["changed"]) == ["first", "second"]


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            graph_passes.takes_half,
            r"pass 'TakesHalf' .* changed parameter x of main from .*float32",
        ),
        (graph_passes.drops_main, r"pass 'DropsMain' .* removed the public function main"),
        (graph_passes.raises_within, r"^pass 'Raises' of pipeline 'sequential' raised Runtime"),
        (broken_pipelines.forgets, r"'Forgets' returned a module without softmax, which its main"),
    ],
    ids=["takes_half", "drops_main", "raises_within", "forgets"],
)
def test_what_cannot_be_honoured_is_refused(finished, pipeline, message):
    """With the pass and the function."""
    with pytest.raises(LoweringError, match=message):
        run_again(finished, pipeline)


def test_a_boundary_and_a_changed_main_exclude_each_other(finished):
    boundary = finished / "boundaries" / "003.json"
    chosen = shutil.copy(boundary, finished.parent / "boundary.json")
    with pytest.raises(UsageError, match=r"--boundary: device pipeline 'SkipSoftmax' changes main"):
        run_again(finished, graph_passes.skip_softmax, boundary=chosen)


def test_a_run_that_does_not_run_the_model_says_so(finished):
    """With the isolated strategy the change of main is not judged, so nothing passes for it."""
    result = run_again(finished, graph_passes.skip_softmax, strategy="isolated")
    assert (result.verdict, result.exit_code) == ("inconclusive", ExitCode.INCONCLUSIVE)
    assert "changed in main was not judged" in result.document["reason"]


def test_a_suite_alone_has_no_main(finished, tmp_path):
    """A pipeline that reads it is refused; in its output folder the suite has a model."""
    report = relax_tapml.replay(
        finished, session="inline", device_pipeline=graph_passes.skip_softmax
    )
    assert set(map(str, report.units.values())) == {"pass"}
    suite = shutil.copytree(finished / "tests", tmp_path / "suite")
    with pytest.raises(LoweringError, match="reads main, a function of the model, which a suite"):
        relax_tapml.replay(suite, session="inline", device_pipeline=graph_passes.skip_softmax)


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside_its_model"])
def test_a_replay_is_not_about_calls_that_a_pass_changes(finished, tmp_path, is_alone):
    """The cases call each unit as it was recorded, whatever a pass does to other calls of it."""
    suite = finished / "tests"
    if is_alone:
        suite = shutil.copytree(suite, tmp_path / "suite")

    @tvm.transform.module_pass(opt_level=0, name="Everywhere")
    def everywhere(module, _ctx):
        names = [g.name_hint for g, f in module.functions.items() if isinstance(f, relax.Function)]
        change = graph_passes.changes_calls(
            "SkipSoftmax", "softmax", lambda call: call.args[1][0], tuple(names)
        )
        return change(module)

    report = relax_tapml.replay(suite, session="inline", device_pipeline=everywhere)
    assert set(map(str, report.units.values())) == {"pass"}
