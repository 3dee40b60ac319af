"""Results that tests make, for what reports them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.json_codec import decode
from relax_tapml.results.run_result import RunResult, StageSeconds
from relax_tapml.results.step_result import StepResult, StepSeconds
from relax_tapml.results.unit_result import UnitResult


@pytest.fixture
def document() -> dict[str, Any]:
    """A ``result.json`` of MiniLM on cuda: 26 units, moved one at a time, and one mismatch.

    The file has no boundaries: each is the one before, without what failed, and the unit moved.
    """
    path = Path(__file__).parents[1] / "report" / "minilm.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    moved: list[str] = []
    for tried in found["steps"]:
        tried["boundary"] = [*moved, tried["unit"]]
        if tried["verdict"] == "pass":
            moved.append(tried["unit"])
    return found


@pytest.fixture
def result(document: dict[str, Any]) -> RunResult:
    """The same as a result."""
    return decode(document, RunResult)


def run_of(units: Sequence[UnitResult] = (), **fields: Any) -> RunResult:
    """Return a run on cuda that passes, unless ``fields`` say something else."""
    return RunResult(
        **{
            "verdict": Verdict.PASS,
            "culprits": [],
            "units": tuple(units),
            "steps": (),
            "skipped": (),
            "versions": {},
            "seconds": StageSeconds(),
            "source": "llvm",
            "target": "cuda",
            "session": "process",
            **fields,
        }
    )


def unit(name: str, verdict: str = "pass", **fields: Any) -> UnitResult:
    """Return a unit."""
    return UnitResult(name=name, verdict=Verdict(verdict), **fields)


def step(boundary: Sequence[str] = (), verdict: str = "pass", **fields: Any) -> StepResult:
    """Return a step."""
    seconds = fields.pop("seconds", StepSeconds())
    return StepResult(boundary=tuple(boundary), verdict=Verdict(verdict), seconds=seconds, **fields)


def changed(result: RunResult, units: Mapping[int, Mapping[str, Any]], **fields: Any) -> RunResult:
    """Return a run some of whose units, by position, and some of whose fields are others."""
    changes = [units.get(number, {}) for number in range(len(result.units))]
    pairs = zip(result.units, changes, strict=True)
    return replace(result, units=tuple(replace(one, **change) for one, change in pairs), **fields)
