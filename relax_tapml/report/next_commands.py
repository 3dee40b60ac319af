"""What to run after a run: the same commands on the page and in the terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.findings import is_pass
from relax_tapml.results.run_result import RunResult
from relax_tapml.suite.pytest_file import MAX_STEM, identifier

_NAMED_AT_MOST = 5


def next_commands(result: RunResult, out: Path, *, has_tests: bool) -> list[str]:
    """Return commands, the most useful one first.

    Parameters
    ----------
    result
        Of the run.
    out
        Its folder, as the commands shall name it.
    has_tests
        Whether there is a suite in it.
    """
    finding = None if result.import_ is None else result.import_.finding
    scripts = [] if finding is None else [node.script for node in finding.nodes if node.script]
    commands = [shlex.join(["python", str(out / script)]) for script in scripts]
    if not has_tests:
        return commands
    # A script runs a unit alone, so it cannot show what is wrong in company only.
    alone = {unit.name for unit in result.units if not unit.is_in_context_only}
    shown = [name for name in culprit_units(result) if name in alone]
    commands += [reproduce_command(name, out) for name in shown[:1]]
    pipeline = result.device_pipeline
    # A pass object given from Python has no name a command could use.
    if not pipeline or ":" in pipeline:
        commands.append(_pytest(result, out))
    return commands


def reproduce_command(unit: str, out: Path) -> str:
    """Return the command that writes a unit as a script."""
    return shlex.join(["relax-tapml", "reproduce", str(out), unit])


def culprit_units(result: RunResult) -> list[str]:
    """Return the culprits that are judged units of the suite, in order."""
    wrong = {unit.name for unit in result.units if unit.verdict is not Verdict.SKIPPED}
    return [name for name in result.culprits if not is_pass(name) and name in wrong]


def _pytest(result: RunResult, out: Path) -> str:
    command = ["pytest", str(out / "tests")]
    command += ["--tapml-target", result.target, "--tapml-session", result.session]
    if result.device_pipeline:
        command += ["--tapml-device-pipeline", result.device_pipeline]
    wrong = [name for name in result.culprits if not is_pass(name)]
    if 0 < len(wrong) <= _NAMED_AT_MOST:
        # The tests of a suite have the names of its files, which are identifiers.
        command += ["-k", " or ".join(identifier(name)[:MAX_STEM] for name in wrong)]
    return shlex.join(command)
