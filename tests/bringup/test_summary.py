"""One verdict of a run, from what its stages found."""

from __future__ import annotations

import dataclasses

import pytest
from made_results import unit

from relax_tapml.bringup.conclusion import inconclusive_reason, overall_verdict, with_pipeline
from relax_tapml.bringup.summary import notes_about, without_explained
from relax_tapml.compare.verdict import Verdict, exit_code_of
from relax_tapml.errors import ExitCode
from relax_tapml.migrate.in_context import InContext, in_context
from relax_tapml.passes.notes import Note
from relax_tapml.results.pipeline_result import PipelineResult
from relax_tapml.results.unit_result import UnitResult, culprits

ALONE = UnitResult(name="a", verdict=Verdict.PASS, error=1e-7, tolerance=1e-5, cases=2)


def units(*verdicts):
    return [unit(f"u{number}", verdict) for number, verdict in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "verdict", "names", "code"),
    [
        (["pass", "pass"], "pass", [], ExitCode.PASS),
        (["pass", "skipped"], "pass", [], ExitCode.PASS),
        (["skipped"], "inconclusive", [], ExitCode.INCONCLUSIVE),
        ([], "inconclusive", [], ExitCode.INCONCLUSIVE),
        (["pass", "inconclusive"], "inconclusive", [], ExitCode.INCONCLUSIVE),
        (["pass", "mismatch"], "mismatch", ["u1"], ExitCode.MISMATCH),
        (["inconclusive", "mismatch"], "mismatch", ["u1"], ExitCode.MISMATCH),
        (["build_error", "mismatch"], "mismatch", ["u0", "u1"], ExitCode.MISMATCH),
        (["build_error", "flaky"], "flaky", ["u0", "u1"], ExitCode.MISMATCH),
        (["mismatch", "flaky"], "mismatch", ["u0", "u1"], ExitCode.MISMATCH),
        (["mismatch", "timeout"], "timeout", ["u0", "u1"], ExitCode.MISMATCH),
        (["timeout", "crash", "skipped"], "crash", ["u0", "u1"], ExitCode.MISMATCH),
        (["build_error", "skipped"], "build_error", ["u0"], ExitCode.MISMATCH),
    ],
)
def test_the_gravest_unit_decides(verdicts, verdict, names, code):
    """Everything wrong is a culprit, in order; nothing compared is no pass."""
    found = units(*verdicts)
    assert (overall_verdict(found), culprits(found)) == (verdict, names)
    assert exit_code_of([overall_verdict(found)]) == code
    assert exit_code_of(unit.verdict for unit in found) == code


@pytest.mark.parametrize("context", [InContext(on_device=True), InContext(on_device=False), None])
def test_a_unit_that_nothing_is_known_against_passes(context):
    """On the device or not, to be moved or not: what it did alone stands."""
    assert in_context(ALONE, context) == dataclasses.replace(
        ALONE, alone=Verdict.PASS, on_device=context is not None and context.on_device
    )


def test_a_unit_that_is_wrong_in_context_only_is_reported_so():
    """Isolated and compound errors are told apart; the numbers are the model's."""
    context = InContext(
        on_device=False, verdict=Verdict.MISMATCH, reason="fails", error=2.0, together=("b",)
    )
    unit = in_context(ALONE, context)
    assert unit.is_in_context_only
    assert (unit.verdict, unit.alone, unit.on_device) == (Verdict.MISMATCH, Verdict.PASS, False)
    assert (unit.reason, unit.error, unit.tolerance) == ("fails", 2.0, None)
    assert unit.together == ("b",)


def test_a_note_about_kernels_is_said_where_one_is_called():
    """What was set right for token trees concerns nobody who verifies none."""
    notes = [Note("a pass failed"), Note("trees are right", ("tree", "paged tree"))]
    assert notes_about(notes, {"softmax"}) == ("a pass failed",)
    assert notes_about(notes, {"softmax", "tree"}) == ("a pass failed", "trees are right")


def test_what_a_unit_did_alone_stands_if_it_was_wrong():
    """It is not moved, so no step is about it."""
    alone = dataclasses.replace(ALONE, verdict=Verdict.CRASH, reason="was terminated by SIGSEGV")
    unit = in_context(alone, None)
    assert (unit.verdict, unit.reason) == (Verdict.CRASH, "was terminated by SIGSEGV")
    assert not unit.is_in_context_only


def test_devices_that_disagree_are_no_pass_and_name_no_culprit():
    """The reason names the units; a unit that is wrong for sure comes first."""
    found = units("pass", "inconclusive")
    assert overall_verdict(found) is Verdict.INCONCLUSIVE
    assert "u1" in inconclusive_reason(found)


def test_units_that_only_blunt_tolerances_judge_are_named():
    """At most three of them, and how many more."""
    found = [dataclasses.replace(unit, blunt=(0,)) for unit in units(*["inconclusive"] * 5)]
    reason = inconclusive_reason(found)
    assert "u2" in reason
    assert "u3" not in reason
    assert "2 more" in reason


def test_a_unit_is_reconsidered_when_the_migration_names_what_it_runs():
    """Wrong alone, its kernel in context only: the kernel is the one culprit."""
    attention = dataclasses.replace(ALONE, name="attention", verdict=Verdict.MISMATCH)
    context = InContext(on_device=False, verdict=Verdict.MISMATCH, reason="passes alone, but")
    found = [
        in_context(attention, None),
        in_context(dataclasses.replace(ALONE, name="decode"), context),
    ]
    judged = without_explained(found, {"attention": frozenset({"decode"})})
    assert (overall_verdict(judged), culprits(judged)) == (Verdict.MISMATCH, ["decode"])
    assert (judged[0].verdict, judged[0].alone) == (Verdict.SKIPPED, Verdict.MISMATCH)
    assert "decode (mismatch)" in judged[0].reason
    assert judged[1] == found[1]
    assert without_explained(found, {}) == found


@pytest.mark.parametrize(
    ("verdict", "names", "pipeline", "expected"),
    [
        ("pass", [], PipelineResult(verdict=Verdict.PASS), ("pass", [])),
        (
            "pass",
            [],
            PipelineResult(verdict=Verdict.MISMATCH, passes=("P",)),
            ("mismatch", ["pass:P"]),
        ),
        (
            "crash",
            ["u0"],
            PipelineResult(verdict=Verdict.MISMATCH, passes=("P",)),
            ("crash", ["u0", "pass:P"]),
        ),
        ("pass", [], PipelineResult(verdict=Verdict.SKIPPED, reason="r"), ("inconclusive", [])),
        ("crash", ["u0"], PipelineResult(verdict=Verdict.SKIPPED, reason="r"), ("crash", ["u0"])),
    ],
)
def test_a_wrong_pass_is_a_culprit_beside_units(verdict, names, pipeline, expected):
    """What its pipeline makes of the model is judged with it, and never hides a wrong unit."""
    found = with_pipeline(Verdict(verdict), names, "", pipeline)
    assert found[:2] == expected


def test_a_run_whose_kernels_are_all_new_passes_by_its_module():
    """No unit was compared, but the whole module was."""
    found = units("skipped")
    verdict, names, reason = with_pipeline(
        overall_verdict(found), [], inconclusive_reason(found), PipelineResult(verdict=Verdict.PASS)
    )
    assert (verdict, names, reason) == (Verdict.PASS, [], "")
