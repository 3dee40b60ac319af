"""What a replay found, as the types of ``results``: what is stored, printed and reported of it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from relax_tapml.compare.comparison import Comparison
from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.replay import ReplayReport
from relax_tapml.replays.unit.case_replay import CaseReplay
from relax_tapml.replays.unit.unit_replay import UnitReplay
from relax_tapml.results.error_map_result import ErrorMapResult
from relax_tapml.results.replay_result import ReplayResult
from relax_tapml.results.unit_result import (
    CasePower,
    CaseResult,
    FirstMismatch,
    OutputResult,
    PowerResult,
    ReplayedUnit,
    UnitResult,
    metrics_of,
)


def unit_result(detail: UnitReplay) -> UnitResult:
    """Return how a unit ended alone; what the model's run found is added later."""
    decisive = detail.worst
    return UnitResult(
        **_outcome(detail),
        alone=detail.verdict,
        cases=sum(not item.case.is_probe for item in detail.cases),
        probes=sum(item.case.is_probe for item in detail.cases),
        case=detail.decisive_case or None,
        metrics=None if decisive is None else metrics_of(decisive),
        first=None if decisive is None else first_mismatch(decisive),
        error_map=None if decisive is None else ErrorMapResult.of(decisive.error_map),
        power=tuple(power for case in detail.cases for power in case_power(case)),
    )


def replay_result(report: ReplayReport) -> ReplayResult:
    """Return a replayed suite: units in the order of the suite, devices by name."""
    return ReplayResult(
        units=tuple(
            ReplayedUnit(**_outcome(detail), cases=tuple(map(case_result, detail.cases)))
            for detail in report.details.values()
        ),
        devices=report.devices,
    )


def _outcome(detail: UnitReplay) -> dict[str, Any]:
    """Return the fields of ``UnitOutcome``."""
    decisive = detail.worst
    return {
        "name": detail.unit,
        "verdict": detail.verdict,
        "reason": detail.reason,
        "runs": detail.runs,
        "failures": detail.failures,
        "device": detail.device,
        "precision": "low" if detail.precision else None,
        "precision_reason": detail.precision,
        "error": None if decisive is None else decisive.error,
        "tolerance": None if decisive is None else _allowed(decisive),
        "tolerance_origin": None if decisive is None else decisive.tolerance.origin,
        "blunt": detail.blunt,
    }


def case_result(case: CaseReplay) -> CaseResult:
    """Return how a case ended."""
    return CaseResult(
        name=case.case.name,
        site=case.case.site,
        verdict=case.verdict,
        reason=case.reason,
        device=case.device,
        outputs=tuple(
            OutputResult(
                verdict=item.verdict,
                error=item.error,
                tolerance=_allowed(item),
                tolerance_origin=item.tolerance.origin,
                metrics=metrics_of(item),
                power=PowerResult.of(item.power) if _has_power(item) else None,
            )
            for item in case.comparisons
        ),
    )


def case_power(case: CaseReplay) -> list[CasePower]:
    """Return what the tolerances of a case see, for each output that passes."""
    return [
        CasePower(
            case=case.case.name,
            probe=case.case.is_probe,
            output=output,
            **{**asdict(PowerResult.of(item.power)), "blunt": not item.is_sharp},
        )
        for output, item in enumerate(case.comparisons)
        if _has_power(item)
    ]


def _has_power(comparison: Comparison) -> bool:
    """Whether it can be asked what the tolerance sees: not of a mismatch, nor without a value."""
    return not comparison.is_empty and comparison.verdict is not Verdict.MISMATCH


def _allowed(comparison: Comparison) -> float | None:
    """Return what the value that ``error`` is about is allowed, None where there is no value."""
    return None if math.isnan(comparison.allowed) else comparison.allowed


def first_mismatch(comparison: Comparison) -> FirstMismatch | None:
    """Return the first wrong value of a comparison; None without one."""
    if comparison.first_index is None:
        return None
    return FirstMismatch(
        index=comparison.first_index,
        expected=comparison.first_expected,
        actual=comparison.first_actual,
        ulp=comparison.first_ulp,
    )
