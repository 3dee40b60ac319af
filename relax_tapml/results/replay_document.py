"""What ``relax-tapml replay --json`` prints of a suite."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from relax_tapml.compare.power import power_document
from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.json_number import json_number

if TYPE_CHECKING:
    from relax_tapml.replay.replay import ReplayReport
    from relax_tapml.replay.unit.unit_replay import UnitReplay


def report_document(report: ReplayReport) -> dict[str, Any]:
    """Return a report as JSON: units in the order of the suite, devices by name."""
    return {
        "schema": 2,
        "units": [_unit(unit) for unit in report.details.values()],
        "devices": {name: asdict(record) for name, record in report.devices.items()},
    }


def _unit(unit: UnitReplay) -> dict[str, Any]:
    from relax_tapml.results.run_result import allowed_number, metrics_document  # imports TVM

    worst = unit.worst
    return {
        "name": unit.unit,
        "verdict": unit.verdict,
        "reason": unit.reason,
        "runs": unit.runs,
        "failures": unit.failures,
        "device": unit.device,
        "blunt": list(unit.blunt),
        "precision": "low" if unit.precision else None,
        "precision_reason": unit.precision,
        "error": None if worst is None else json_number(worst.error),
        "tolerance": None if worst is None else allowed_number(worst),
        "origin": None if worst is None else worst.tolerance.origin,
        "cases": [
            {
                "name": case.case.name,
                "site": case.case.site,
                "verdict": case.verdict,
                "reason": case.reason,
                "device": case.device,
                "outputs": [
                    {
                        "verdict": item.verdict,
                        "error": json_number(item.error),
                        "tolerance": allowed_number(item),
                        "origin": item.tolerance.origin,
                        "metrics": metrics_document(item),
                        "power": None
                        if item.is_empty or item.verdict == Verdict.MISMATCH
                        else power_document(item.power),
                    }
                    for item in case.comparisons
                ],
            }
            for case in unit.cases
        ],
    }
