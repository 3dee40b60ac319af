"""What a run recorded about a unit, and whether a reproducer shows the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.report.findings import tolerance_text
from relax_tapml.report.quantities import number_text
from relax_tapml.results.result_file import RESULT_FILE, read_result
from relax_tapml.results.run_result import RunResult
from relax_tapml.results.unit_result import UnitResult
from relax_tapml.suite.script_run import ScriptEnd, ScriptRun

_REPEATS = {
    Verdict.PASS: {ScriptEnd.AGREES},
    Verdict.MISMATCH: {ScriptEnd.DIFFERS},
    Verdict.CRASH: {ScriptEnd.CRASHED, ScriptEnd.RAISED},
    Verdict.TIMEOUT: {ScriptEnd.TIMEOUT},
    Verdict.BUILD_ERROR: {ScriptEnd.RAISED},
    Verdict.FLAKY: set(ScriptEnd) - {ScriptEnd.AGREES},
}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run, and the output folder that holds it."""

    folder: Path
    result: RunResult

    def unit(self, name: str) -> UnitResult | None:
        """Return what the run found out about a unit, None if it has no such unit."""
        return next((unit for unit in self.result.units if unit.name == name), None)


def find_record(folder: Path) -> RunRecord | None:
    """Return the record of the run that an output folder, or the suite in it, belongs to."""
    for place in (folder, folder.resolve().parent):
        if (place / RESULT_FILE).is_file() and (place / "tests" / "manifest.json").is_file():
            return RunRecord(folder=place, result=read_result(place))
    return None


def recorded_lines(unit: UnitResult, target: str) -> list[str]:
    """Return what was found about a unit: verdict and reason, then error and tolerance."""
    reason = f": {unit.reason}" if unit.reason else ""
    lines = [f"{unit.verdict} on {target}{reason}"]
    if unit.error is not None:
        text = f"error {number_text(unit.error)}"
        if unit.tolerance is not None:
            text += f", {tolerance_text(unit.tolerance, unit.tolerance_origin)}"
        lines.append(text)
    return lines


def compared_with_run(unit: UnitResult, script: ScriptRun) -> tuple[str, ExitCode]:
    """Return whether a script shows what the run found.

    Returns
    -------
    tuple
        A sentence for people, and the exit code: inconclusive where it does not.
    """
    verdict, ended = unit.verdict, script.reason
    if unit.is_in_context_only:
        others = ", ".join(unit.together) or "the rest of the model"
        about = (
            f"the run found the unit wrong only together with {others}; alone it passes, and this "
            "script runs it alone, so it contains the kernel but cannot show the failure"
        )
        return f"{ended}; {about}", ExitCode.PASS
    if verdict not in _REPEATS:
        return f"{ended}; the run did not judge the unit ({verdict})", ExitCode.PASS
    if script.end in _REPEATS[verdict]:
        same = (
            "as in the run, which it passed" if verdict is Verdict.PASS else "the failure repeats"
        )
        return f"{ended}: {same}", ExitCode.PASS
    if verdict is Verdict.PASS:
        return f"{ended}, although the unit passed in the run", ExitCode.INCONCLUSIVE
    if script.end is not ScriptEnd.AGREES:
        return f"{ended}: it fails here too, but the run recorded {verdict}", ExitCode.PASS
    return (
        f"{ended}: the failure does NOT repeat here. A script compares outputs and inputs only: "
        "it puts no guards around tensors, and runs nothing else in its process",
        ExitCode.INCONCLUSIVE,
    )
