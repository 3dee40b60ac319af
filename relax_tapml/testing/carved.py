"""What a carved test calls."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relax_tapml.compare.comparison import worst
from relax_tapml.compare.power import Power
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import TapmlError
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.passes.origin import Origin, site_text
from relax_tapml.printable import printable
from relax_tapml.replays.unit.case_replay import CaseReplay
from relax_tapml.replays.unit.power_check import blunt_reason
from relax_tapml.replays.unit.replayer import Replayer, kernels_beside
from relax_tapml.report.findings import tolerance_text
from relax_tapml.report.quantities import number_text
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.testing.exclusive import exclusive

Properties = list[tuple[str, object]]


@dataclass(frozen=True, kw_only=True)
class CarvedSuites:
    """The suites of one pytest run, each with one device session and one set of kernels.

    Parameters
    ----------
    test_files
        The files of all selected tests; other units are not built.
    target
        Target string, or None for the one each suite was recorded on.
    session, device_pipeline, timeout_s, repeat, seed, trust
        As for ``relax_tapml.replay``.
    shared
        A folder that other pytest processes of this run use at the same time: kernels are built
        by the first that needs them. None if there are no others.
    """

    test_files: frozenset[Path]
    target: str | None
    session: str
    device_pipeline: str | None
    timeout_s: float
    repeat: int = 1
    seed: int | None = None
    trust: bool = False
    shared: Path | None = None
    _replayers: dict[Path, Replayer | TapmlError] = field(default_factory=dict, init=False)

    def replay(
        self, test_file: str, *, unit: str, case: str, properties: Properties | None = None
    ) -> None:
        """Run one case; fail the calling test with a short message unless it passes.

        A case that passes and is blunt, so that it could hardly have failed, is skipped with the
        reason: a green test has compared something.

        Parameters
        ----------
        test_file
            ``__file__`` of the test, which lies in the suite.
        unit, case
            Names in the suite's manifest.
        properties
            Of the test, for JUnit files; the results are added.
        """
        __tracebackhide__ = True
        try:
            result = self._run(Path(test_file).parent, unit, case)
        except TapmlError as error:
            message = printable(f"{unit}: {error}")
            # From None: pytest would print the error, too, as it is.
            raise pytest.fail.Exception(message, pytrace=False) from None
        if properties is not None:
            properties.extend(_properties(result))
        if result.verdict is Verdict.SKIPPED:
            pytest.skip(printable(f"{unit}: {result.reason}"))
        if result.verdict is not Verdict.PASS:
            pytest.fail(printable(self._message(result, test_file)), pytrace=False)
        for output, item in enumerate(result.comparisons):
            if not item.is_empty and not item.is_sharp:
                where = f"output {output}: " if len(result.comparisons) > 1 else ""
                why = f"{unit}: blunt, so not evidence for a pass: {where}{blunt_reason(item)}"
                pytest.skip(printable(why))

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
        chosen = next(item for item in cases if item.name == case)
        return replayer.run(unit, chosen, repeat=self.repeat)

    def _opened(self, folder: Path) -> Replayer | TapmlError:
        """Open a suite, once; if it is damaged, each of its tests fails with the error."""
        try:
            target = self.target and parse_target(self.target, self.session)
            suite = open_suite(folder, target or None, trust=self.trust)
            selected = {path.name for path in self.test_files if path.parent == folder}
            replayer = Replayer(
                suite,
                target=target or parse_target(suite.manifest.source, self.session),
                session=self.session,
                device_pipeline=load_pipeline(self.device_pipeline),
                timeout_s=self.timeout_s,
                kernels=kernels_beside(suite) or self.shared,
                seed=self.seed,
                units=[u for u, entry in suite.manifest.units.items() if entry.test in selected],
            )
            if self.shared is not None:
                with exclusive(self.shared / "build.lock"):
                    replayer.build()
            return replayer
        except TapmlError as error:
            return error

    def _message(self, result: CaseReplay, test_file: str) -> str:
        origins = [Origin.parse(text) for text in result.case.origins]
        lines = [f"{result.unit} at {result.case.site}: {result.verdict}"]
        if origins:
            lines.append(f"from {site_text(origins)}")
        wrong = {
            index: item
            for index, item in enumerate(result.comparisons)
            if item.verdict is Verdict.MISMATCH
        }
        if not wrong:
            lines.append(result.reason)
        for index, item in wrong.items():
            lines.append(f"output {index}: {item.reason}")
            if item.first_index is None:
                continue
            apart = "" if item.first_ulp is None else f", {item.first_ulp} ULP apart"
            lines.append(
                f"at {list(item.first_index)}: expected {item.first_expected}, "
                f"got {item.first_actual}{apart}"
            )
            tolerance = tolerance_text(item.allowed, item.tolerance.origin)
            lines.append(f"error {number_text(item.error)}, {tolerance}")
            cause = self._cause(result, test_file, index, item.first_index)
            if cause is not None:
                lines.append(f"caused by: {cause}")
        if wrong:
            lines += result.violations
        lines.append(f"rerun: {shlex.join(self._command(result, test_file))}")
        return "\n  ".join(lines)

    def _cause(
        self, result: CaseReplay, test_file: str, output: int, index: tuple[int, ...]
    ) -> str | None:
        """Say which inputs a wrong value comes from, None where that is not known."""
        # Only a failing test pays for the analysis.
        from relax_tapml.suite.trace_inputs import input_at

        replayer = self._replayers[Path(test_file).parent]
        if isinstance(replayer, TapmlError):
            return None
        return input_at(replayer.suite, result.unit, result.case, output, index)

    def _command(self, result: CaseReplay, test_file: str) -> list[str]:
        command = ["pytest", test_file, "-k", result.case.name]
        for option, value in (
            ("--tapml-target", self.target),
            ("--tapml-session", self.session),
            ("--tapml-device-pipeline", self.device_pipeline),
            ("--tapml-seed", self._seed(test_file)),
        ):
            if value is not None:
                command += [option, value]
        return [*command, "--tapml-trust"] if self.trust else command

    def _seed(self, test_file: str) -> str | None:
        """Return the seed of the replay, by which it can be run again as it was."""
        replayer = self._replayers[Path(test_file).parent]
        return None if isinstance(replayer, TapmlError) else str(replayer.seed)


def _properties(result: CaseReplay) -> Properties:
    found: Properties = [
        ("unit", result.unit),
        ("site", result.case.site),
        ("verdict", str(result.verdict)),
    ]
    if result.comparisons:
        item = worst(result.comparisons)
        found += [
            ("error", number_text(item.error)),
            ("allowed", number_text(item.allowed)),
            ("origin", item.tolerance.origin),
        ]
    found += [
        (f"power of output {output}", _power_text(item.power))
        for output, item in enumerate(result.comparisons)
        if item.power is not None
    ]
    return found


def _power_text(power: Power) -> str:
    sees = ", ".join(power.sees) or "nothing"
    return f"{'blunt' if power.is_blunt else 'sharp'}: sees {sees}"
