"""What a carved test calls."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relax_tapml.carve.open_suite import open_suite
from relax_tapml.carve.replayer import CaseReplay, Replayer
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import TapmlError
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.targets.target import parse_target


@dataclass(frozen=True, kw_only=True)
class CarvedSuites:
    """The suites of one pytest run, each with one device session and one set of kernels.

    Parameters
    ----------
    test_files
        The files of all selected tests; other units are not built.
    target
        Target string, or None for the one each suite was recorded on.
    session, device_pipeline, timeout_s
        As for ``relax_tapml.replay``.
    """

    test_files: frozenset[Path]
    target: str | None
    session: str
    device_pipeline: str | None
    timeout_s: float
    _replayers: dict[Path, Replayer | TapmlError] = field(default_factory=dict, init=False)

    def replay(self, test_file: str, *, unit: str, case: str) -> None:
        """Run one case; fail the calling test with a short message unless it passes.

        Parameters
        ----------
        test_file
            ``__file__`` of the test, which lies in the suite.
        unit, case
            Names in the suite's manifest.
        """
        __tracebackhide__ = True
        try:
            result = self._run(Path(test_file).parent, unit, case)
        except TapmlError as error:
            pytest.fail(f"{unit}: {error}", pytrace=False)
        if result.verdict is Verdict.SKIPPED:
            pytest.skip(f"{unit}: {result.reason}")
        if result.verdict is not Verdict.PASS:
            pytest.fail(self._message(result, test_file), pytrace=False)

    def close(self) -> None:
        """End every device session."""
        for replayer in self._replayers.values():
            if isinstance(replayer, Replayer):
                replayer.close()

    def _run(self, folder: Path, unit: str, case: str) -> CaseReplay:
        if folder not in self._replayers:
            self._replayers[folder] = self._opened(folder)
        replayer = self._replayers[folder]
        if isinstance(replayer, TapmlError):
            raise replayer
        cases = replayer.suite.manifest.units[unit].cases
        return replayer.run(unit, next(item for item in cases if item.name == case))

    def _opened(self, folder: Path) -> Replayer | TapmlError:
        """Open a suite; what is wrong with it is told by each of its tests, and found out once."""
        try:
            suite = open_suite(folder)
            selected = {path.name for path in self.test_files if path.parent == folder}
            return Replayer(
                suite,
                target=parse_target(self.target or suite.manifest.source),
                session=self.session,
                device_pipeline=load_pipeline(self.device_pipeline),
                timeout_s=self.timeout_s,
                units=[u for u, entry in suite.manifest.units.items() if entry.test in selected],
            )
        except TapmlError as error:
            return error

    def _message(self, result: CaseReplay, test_file: str) -> str:
        lines = [f"{result.unit} at {result.case.site}: {result.verdict}"]
        wrong = {
            index: item
            for index, item in enumerate(result.comparisons)
            if item.verdict is not Verdict.PASS
        }
        if not wrong:
            lines.append(result.reason)
        for index, item in wrong.items():
            tolerance = item.tolerance
            lines.append(f"output {index}: {item.reason}")
            if item.first_index is not None:
                lines.append(
                    f"at {list(item.first_index)}: expected {item.first_expected}, "
                    f"got {item.first_actual}; allowed {tolerance.atol:.3g} + "
                    f"{tolerance.rtol:.3g} * |expected|: {tolerance.origin}"
                )
        lines.append(f"rerun: {shlex.join(self._command(result, test_file))}")
        return "\n  ".join(lines)

    def _command(self, result: CaseReplay, test_file: str) -> list[str]:
        command = ["pytest", test_file, "-k", result.case.name]
        for option, value in (
            ("--tapml-target", self.target),
            ("--tapml-session", self.session),
            ("--tapml-device-pipeline", self.device_pipeline),
        ):
            if value is not None:
                command += [option, value]
        return command
