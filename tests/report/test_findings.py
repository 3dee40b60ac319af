from __future__ import annotations

from typing import Any

import pytest

from relax_tapml.report.findings import agreement_text, explain, headline, notes


def run(verdicts: dict[str, str], culprits: list[str], verdict: str) -> dict[str, Any]:
    units = [{"name": name, "verdict": v} for name, v in verdicts.items()]
    return {
        "verdict": verdict,
        "culprits": culprits,
        "units": units,
        "source": "llvm",
        "target": "cuda",
    }


@pytest.mark.parametrize(
    ("verdicts", "culprits", "verdict", "expected"),
    [
        (
            {"a": "pass", "b": "pass"},
            [],
            "pass",
            "All 2 units run on cuda and agree with llvm within tolerance.",
        ),
        (
            {"a": "pass", "b": "skipped"},
            [],
            "pass",
            "1 of 2 units run on cuda and agree with llvm within tolerance.",
        ),
        ({"a": "mismatch", "b": "pass"}, ["a"], "mismatch", "1 of 2 units is wrong on cuda: a."),
        ({"a": "crash"}, ["a"], "crash", "1 of 1 unit crashes on cuda: a."),
        (
            {"a": "timeout", "b": "timeout"},
            ["a", "b"],
            "timeout",
            "2 of 2 units do not return in time on cuda: a, b.",
        ),
        (
            {"a": "build_error", "b": "pass"},
            ["a"],
            "build_error",
            "1 of 2 units cannot be built on cuda: a.",
        ),
        (
            {"a": "crash", "b": "mismatch", "c": "mismatch", "d": "mismatch"},
            ["a", "b", "c", "d"],
            "mismatch",
            "4 of 4 units fail (3 mismatch, 1 crash) on cuda: a, b, c and 1 more.",
        ),
        (
            {"a": "pass"},
            [],
            "mismatch",
            "Inconclusive on cuda: mismatch, 1 of 1 unit pass and no unit is named as the culprit.",
        ),
    ],
)
def test_headline(
    verdicts: dict[str, str], culprits: list[str], verdict: str, expected: str
) -> None:
    assert headline(run(verdicts, culprits, verdict)) == expected


def test_a_reason_for_no_verdict_is_given() -> None:
    result = run({}, [], "inconclusive")
    result["reason"] = "llvm differs from the framework"
    assert headline(result) == "Inconclusive on cuda: llvm differs from the framework."


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        (0, "All 2 units pass alone on cuda; none has been moved."),
        (
            1,
            "All 2 units pass alone on cuda; with 1 of them on the device the model agrees with "
            "llvm.",
        ),
        (2, "All 2 units run on cuda and agree with llvm within tolerance."),
    ],
)
def test_a_run_that_stopped_early_claims_no_more_than_it_tried(moved: int, expected: str) -> None:
    """A unit that only passed alone has not run in the model."""
    result = run({"a": "pass", "b": "pass"}, [], "pass")
    for number, unit in enumerate(result["units"]):
        unit["on_device"] = number < moved
    assert headline(result) == expected


def test_a_unit_that_fails_only_in_company_is_told_apart() -> None:
    """Isolated and compound errors are different findings."""
    unit = {"name": "a", "verdict": "mismatch", "reason": "1 of 4 values differs"}
    assert "No other unit is needed for that" in explain({**unit, "alone": "pass"})
    pair = explain({**unit, "alone": "pass", "together": ["b"]})
    assert "With any of them on the host the model is right" in pair
    flaky = {**unit, "verdict": "flaky", "alone": "pass"}
    assert "look for a race" in explain(flaky)
    assert "fails alone too" in explain({**unit, "alone": "mismatch"})
    assert explain(unit) == "a: 1 of 4 values differs."


def test_numbers_stand_in_for_a_missing_reason() -> None:
    unit = {
        "name": "a",
        "verdict": "mismatch",
        "reason": "",
        "error": 0.25,
        "tolerance": 3.1e-6,
        "first": {"index": [0, 2], "expected": 1.5, "actual": 1.75},
    }
    assert explain(unit) == (
        "a: mismatch, error 2.5e-01, first at [0, 2]: expected 1.5, got 1.75. Tolerance 3.1e-06."
    )
    assert explain({**unit, "reason": "wrong."}) == "a: wrong. Tolerance 3.1e-06."


def test_a_tolerance_comes_with_its_origin() -> None:
    """A number that nobody can question is no help."""
    unit = {"name": "a", "verdict": "mismatch", "reason": "wrong", "tolerance": 0.5}
    assert explain({**unit, "tolerance_origin": "measured on 4 inputs"}) == (
        "a: wrong. Tolerance 5.0e-01: measured on 4 inputs."
    )


@pytest.mark.parametrize(
    ("agreement", "expected"),
    [
        (None, ""),
        (
            {"meaning": "tokens", "total": 40, "same": 38, "ties": 1, "diverged": 1, "best": None},
            "The bundle's 40 greedy tokens: 38 as on llvm, 1 another of a tie, 1 diverged.",
        ),
        (
            {"meaning": "classes", "total": 8, "same": 8, "ties": 0, "diverged": 0, "best": 7},
            "The bundle's 8 first choices: 8 as on llvm; five best guesses the same in 7.",
        ),
        (
            {"meaning": "embedding", "total": 1, "cosine": 0.25},
            "The bundle's 1 embedding: lowest cosine with llvm 0.25.",
        ),
        (
            {"meaning": "embedding", "total": 2, "cosine": None},
            "The bundle's 2 embeddings: lowest cosine with llvm unknown.",
        ),
    ],
)
def test_agreement_is_that_of_the_last_good_step(agreement, expected):
    """A later step that failed is not in the bundle."""
    steps = [
        {"verdict": "pass", "agreement": {"meaning": "embedding", "total": 9, "cosine": 0.5}},
        {"verdict": "pass", "agreement": agreement},
        {"verdict": "mismatch", "agreement": {"meaning": "embedding", "total": 9, "cosine": 0.1}},
    ]
    assert agreement_text({"source": "llvm", "steps": steps}) == expected
    assert agreement_text({"source": "llvm", "steps": []}) == ""


def test_ties_of_the_last_good_step_and_failed_passes_are_told():
    """A run without them says nothing."""
    result = run({"a": "pass"}, [], "pass")
    assert notes(result) == []
    result["steps"] = [
        {"verdict": "pass", "ties": ["on 'x', main/000/argmax: 1 of 3 values are another choice"]},
        {"verdict": "mismatch", "ties": []},
    ]
    result["lowering_notes"] = ["pass FoldConstant failed on function main"]
    assert notes(result) == [
        "A tie on 'x', main/000/argmax: 1 of 3 values are another choice. With the choices of llvm "
        "imposed there the outputs agree.",
        "Pass FoldConstant failed on function main.",
    ]
