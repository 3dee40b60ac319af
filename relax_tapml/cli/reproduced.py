"""What a run recorded about a unit, and whether a reproducer shows the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.report.findings import tolerance_text
from relax_tapml.report.quantities import number_text
from relax_tapml.results.read_result import read_result
from relax_tapml.suite.script_run import ScriptEnd, ScriptRun

_SHOWS = {
    Verdict.PASS: {ScriptEnd.AGREES},
    Verdict.MISMATCH: {ScriptEnd.DIFFERS},
    Verdict.CRASH: {ScriptEnd.CRASHED, ScriptEnd.RAISED},
    Verdict.TIMEOUT: {ScriptEnd.TIMEOUT},
    Verdict.BUILD_ERROR: {ScriptEnd.RAISED},
    Verdict.FLAKY: set(ScriptEnd) - {ScriptEnd.AGREES},
}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What ``result.json`` says that a reproducer needs.

    Parameters
    ----------
    folder
        The output folder.
    target, session, device_pipeline
        As the run was given them.
    units
        Documents of the units, by name.
    """

    folder: Path
    target: str
    session: str
    device_pipeline: str | None
    units: Mapping[str, Mapping[str, Any]]


def find_record(folder: Path) -> RunRecord | None:
    """Return the record of the run that an output folder, or the suite in it, belongs to."""
    for place in (folder, folder.resolve().parent):
        if (place / "result.json").is_file() and (place / "tests" / "manifest.json").is_file():
            result = read_result(place)
            return RunRecord(
                folder=place,
                target=result["target"],
                session=result["session"],
                device_pipeline=result.get("device_pipeline"),
                units={unit["name"]: unit for unit in result["units"]},
            )
    return None


def recorded_lines(unit: Mapping[str, Any], target: str) -> list[str]:
    """Return what was found about a unit: verdict and reason, then error and tolerance."""
    reason = f": {unit['reason']}" if unit.get("reason") else ""
    lines = [f"{unit['verdict']} on {target}{reason}"]
    if unit.get("error") is not None:
        told = f"error {number_text(unit['error'])}"
        if unit.get("tolerance") is not None:
            told += f", {tolerance_text(unit['tolerance'], unit.get('tolerance_origin'))}"
        lines.append(told)
    return lines


def is_in_context_only(unit: Mapping[str, Any]) -> bool:
    """Whether a unit fails in the model although it passes alone."""
    return unit["verdict"] != Verdict.PASS and unit.get("alone") == Verdict.PASS


def shown(unit: Mapping[str, Any], run: ScriptRun) -> tuple[str, ExitCode]:
    """Say whether a script shows what the run found.

    Returns
    -------
    tuple
        A sentence for people, and the exit code: inconclusive where it does not.
    """
    verdict = Verdict(unit["verdict"])
    if is_in_context_only(unit):
        others = ", ".join(unit.get("together") or []) or "the rest of the model"
        about = (
            f"the run found it wrong only together with {others}; alone it passes, and this script "
            "runs it alone, so it can show the kernel and not the failure"
        )
        return f"{run.told}; {about}", ExitCode.PASS
    if verdict not in _SHOWS:
        return f"{run.told}; the run did not judge it ({verdict})", ExitCode.PASS
    if run.end in _SHOWS[verdict]:
        same = (
            "as in the run, which it passed" if verdict is Verdict.PASS else "the failure repeats"
        )
        return f"{run.told}: {same}", ExitCode.PASS
    if verdict is Verdict.PASS:
        return f"{run.told}, although it passed in the run", ExitCode.INCONCLUSIVE
    if run.end is not ScriptEnd.AGREES:
        return f"{run.told}: it fails here too, but the run recorded {verdict}", ExitCode.PASS
    return (
        f"{run.told}: the failure does NOT repeat here. A script compares outputs and inputs only: "
        "it puts no guards around tensors, and runs nothing else in its process",
        ExitCode.INCONCLUSIVE,
    )
