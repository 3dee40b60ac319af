from __future__ import annotations

import re

import pytest
from made_results import run_of, step, unit

from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Meaning
from relax_tapml.report.findings import (
    agreement_text,
    explain,
    headline,
    moved_text,
    notes,
    pipeline_text,
    reasons,
    unjudged_text,
)
from relax_tapml.results.pipeline_result import PipelineResult
from relax_tapml.results.run_result import RunResult
from relax_tapml.results.step_result import AgreementResult, Purpose
from relax_tapml.results.unit_result import FirstMismatch


def run(verdicts: str, verdict: str = "pass", **fields: object) -> RunResult:
    """Return a run of units a, b, ... with these verdicts; what is wrong is a culprit."""
    units = [unit(name, found) for name, found in zip("abcd", verdicts.split(), strict=False)]
    culprits = [one.name for one in units if one.verdict.is_wrong]
    return run_of(units, **{"verdict": Verdict(verdict), "culprits": culprits, **fields})


@pytest.mark.parametrize(
    ("verdicts", "verdict", "expected"),
    [
        ("pass pass", "pass", "All 2 units run on cuda and agree with llvm"),
        ("pass", "pass", "The only unit runs on cuda and agrees with llvm"),
        ("pass skipped", "pass", "1 of 2 units runs on cuda and agrees with llvm"),
        ("skipped", "pass", "The model runs on cuda as a whole and agrees with llvm"),
        ("mismatch pass", "mismatch", "1 of 2 units is wrong on cuda: a."),
        ("crash", "crash", "1 of 1 unit crashes on cuda: a."),
        ("timeout timeout", "timeout", "2 of 2 units do not return in time on cuda: a, b."),
        ("build_error pass", "build_error", "1 of 2 units cannot be built on cuda: a."),
        (
            "crash mismatch mismatch mismatch",
            "crash",
            "4 of 4 units fail (3 mismatch, 1 crash) on cuda: a, b, c and 1 more.",
        ),
        ("pass", "inconclusive", "Inconclusive on cuda: inconclusive, 1 of 1 unit passes"),
        ("pass pass", "inconclusive", "Inconclusive on cuda: inconclusive, 2 of 2 units pass"),
    ],
)
def test_headline(verdicts: str, verdict: str, expected: str) -> None:
    """Counts, what is wrong, target and culprits; singular and plural are right."""
    assert headline(run(verdicts, verdict)).startswith(expected)


def test_a_reason_for_no_verdict_is_given() -> None:
    result = run("", "inconclusive", reason="llvm differs from the framework")
    assert headline(result) == "Inconclusive on cuda: llvm differs from the framework."


@pytest.mark.parametrize(
    ("units", "moved", "expected"),
    [
        (2, 0, r"All 2 units pass alone on cuda; none .*"),
        (2, 1, r"All 2 units pass alone on cuda; with 1 of them on the device .* llvm."),
        (2, 2, r"All 2 units run on cuda .*"),
        (1, 0, r"The only unit passes alone on cuda; it has not .*"),
    ],
)
def test_a_run_that_stopped_early_claims_no_more_than_it_tried(
    units: int, moved: int, expected: str
) -> None:
    """A unit that only passed alone has not run in the model."""
    result = run_of([unit("ab"[i], on_device=i < moved) for i in range(units)])
    assert re.fullmatch(expected, headline(result))


def test_a_wrong_pass_is_named() -> None:
    """Alone, and the culprits among the units before it."""
    pipeline = PipelineResult(
        verdict=Verdict.MISMATCH, reason="main differs", passes=("Swap",), restored=("b",)
    )
    result = run("pass pass", "mismatch", culprits=["pass:Swap"], pipeline=pipeline)
    assert re.fullmatch(r"No unit is wrong on cuda, .*: pass:Swap\.", headline(result))
    assert pipeline_text(result).startswith("pass:Swap: main differs. ")
    assert " b " in pipeline_text(result)
    both = run("mismatch pass", "mismatch", culprits=["a", "pass:Swap"])
    assert headline(both) == "1 of 2 units is wrong on cuda: a."
    assert pipeline_text(both) == ""


def test_a_unit_that_fails_in_context_only_is_told_apart() -> None:
    """Isolated and compound errors are different findings."""

    def text(verdict: str = "mismatch", **fields: object) -> str:
        return explain(unit("a", verdict, reason="1 of 4 values differs", **fields))

    assert text() == "a: 1 of 4 values differs."
    assert "No other unit is needed" in text(alone=Verdict.PASS)
    assert "With any of them on the host" in text(alone=Verdict.PASS, together=("b",))
    assert "race" in text("flaky", alone=Verdict.PASS)
    assert "less often" in text(alone=Verdict.PASS, right_calls=9)
    assert "fails alone too" in text(alone=Verdict.MISMATCH)


def test_numbers_stand_in_for_a_missing_reason() -> None:
    numbers = {
        "error": 0.25,
        "tolerance": 3.1e-6,
        "first": FirstMismatch(index=(0, 2), expected=1.5, actual=1.75),
    }
    assert explain(unit("a", "mismatch", **numbers)) == (
        "a: mismatch, error 0.25, first at [0, 2]: expected 1.5, got 1.75. Tolerance 3.1e-06."
    )
    wrong = unit("a", "mismatch", reason="wrong.", **numbers)
    assert explain(wrong) == (
        "a: wrong. The value furthest beyond is off by 0.25, tolerance 3.1e-06."
    )


def test_a_tolerance_comes_with_its_origin() -> None:
    """A number that nobody can question is no help."""
    wrong = unit(
        "a", "mismatch", reason="wrong", tolerance=0.5, tolerance_origin="measured on 4 inputs"
    )
    assert explain(wrong) == "a: wrong. Tolerance 0.5: measured on 4 inputs."


def agreement(meaning: Meaning, total: int, same: int, **fields: object) -> AgreementResult:
    numbers = {"ties": 0, "diverged": 0, "best": None, "cosine": None, **fields}
    return AgreementResult(meaning=meaning, total=total, same=same, **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ""),
        (
            agreement(Meaning.TOKENS, 40, 38, ties=1, diverged=1),
            "40 greedy tokens: 38 as on llvm, 1 another of a tie, 1 diverged",
        ),
        (agreement(Meaning.CLASSES, 8, 8, best=7), "8 first choices: 8 as on llvm; .* in 7"),
        (agreement(Meaning.EMBEDDING, 1, 0, cosine=0.25), "1 embedding: .* llvm 0.25"),
        (agreement(Meaning.EMBEDDING, 2, 0), "2 embeddings: .* unknown"),
    ],
)
def test_agreement_is_that_of_the_last_good_step(
    found: AgreementResult | None, expected: str
) -> None:
    """A later step that failed is not in the bundle."""
    steps = [
        step(agreement=agreement(Meaning.EMBEDDING, 9, 0, cosine=0.5)),
        step(agreement=found),
        step(verdict="mismatch", agreement=agreement(Meaning.EMBEDDING, 9, 0, cosine=0.1)),
    ]
    assert re.search(f"{expected}.?$", agreement_text(run_of(steps=tuple(steps))))
    assert bool(agreement_text(run_of(steps=tuple(steps)))) == bool(expected)
    assert agreement_text(run_of()) == ""


def test_ties_of_the_last_good_step_and_failed_passes_are_reported() -> None:
    """A run without them has no notes."""
    assert notes(run_of()) == []
    tie = "on 'x', main/000/argmax: 1 of 3 values are another choice"
    result = run_of(
        steps=(step(ties=(tie,)), step(verdict="mismatch")),
        lowering_notes=("pass FoldConstant failed on function main",),
    )
    first, second = notes(result)
    assert tie in first
    assert second == "Pass FoldConstant failed on function main."


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (step(), "-"),
        (step(["a"], unit="a"), "a"),
        (step(["a", "b", "c"], moved=("a", "b", "c")), "a to c (3)"),
        (step(["a"], moved=("a",), purpose=Purpose.REDUCE), "a alone"),
        (step(["a", "b"], moved=("a",), purpose=Purpose.REDUCE), "a with 1 other"),
        (step(["a", "b", "c"], moved=("a",), purpose=Purpose.REDUCE), "a with 2 others"),
    ],
)
def test_what_a_step_moved(tried, expected):
    assert moved_text(tried) == expected


def test_units_with_the_same_reason_share_a_line() -> None:
    """All are named; the reason is there once."""
    lost = [unit(name, "inconclusive", reason="the board is gone") for name in "ab"]
    assert reasons([lost[0], unit("c", "crash", reason="SIGSEGV"), lost[1]]) == [
        "a, b: inconclusive: the board is gone",
        "c: crash: SIGSEGV",
    ]
    assert unjudged_text([], "why") == ""
    assert unjudged_text(["a"], "why") == "1 unit was not judged (a): why."
    assert unjudged_text(list("abcde"), "why").startswith(
        "5 units were not judged (a, b, c and 2 more): "
    )
