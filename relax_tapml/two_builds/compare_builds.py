"""What changes between two builds of a suite."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, StoreError, UsageError
from relax_tapml.files.machine import machine_errors
from relax_tapml.files.scratch import scratch_folder
from relax_tapml.results.build_comparison import (
    BuildComparison,
    BuildResult,
    Change,
    Pace,
    SpeedChange,
    UnitChange,
)
from relax_tapml.results.unit_result import ReplayedUnit
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.transcript import write_scripts
from relax_tapml.targets.open_session import check_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.two_builds.build_process import BuildProcess
from relax_tapml.two_builds.build_spec import BuildSpec
from relax_tapml.two_builds.changes import (
    built_unit,
    can_be_timed,
    change_of,
    exit_code,
    passed,
)
from relax_tapml.two_builds.in_turns import Round, in_turns, pace_of, ratios, rounds_for, spread

THRESHOLD = 0.1
"""By which share a unit must be slower or faster by default."""

# A unit that passed once and is wrong in the other build must pass so often to count as right.
_CONFIRMING_RUNS = 10
# In how many sessions a unit must be slower or faster.
_SESSIONS = 3

Units = dict[str, ReplayedUnit]
Told = Callable[[str], None]


@machine_errors("comparing two builds")
def compare_builds(
    suite: Suite | Path | str,
    first: BuildSpec,
    second: BuildSpec,
    *,
    units: Sequence[str] | None = None,
    is_timed: bool = True,
    threshold: float = THRESHOLD,
    is_slower_regression: bool = False,
    repeat: int = 1,
    timeout_s: float = 60.0,
    trust: bool = False,
    on_step: Told = lambda _text: None,
) -> BuildComparison:
    """Replay a suite with two builds and tell, unit by unit, what changed.

    Each build has a process of its own, with its interpreter, its environment and its own kernels.
    Both are judged by the same oracles, and each unit that is compared by speed runs in both in
    turns. What would be a regression is run again before it is called one.

    Parameters
    ----------
    suite
        A suite, or an output folder with one in ``tests``.
    first, second
        The builds: what was, and what is.
    units
        Only these units; all by default.
    is_timed
        Whether units that run in both are timed.
    threshold
        By which share a unit must be slower or faster to count as such, 0.1 for 10 %.
    is_slower_regression
        Whether a slower unit is a regression.
    repeat
        How often each case is run.
    timeout_s
        How long one call on a device may take.
    trust
        Whether the suite's units may call functions that are not known to be harmless.
    on_step
        Called with what is being done, a clause.

    Returns
    -------
    BuildComparison
        A build that cannot be replayed has a ``reason`` in it, and leaves its units open.

    Raises
    ------
    UsageError
        A target, session, pipeline or unit is not known.
    StoreError
        The suite is damaged, or this process's TVM cannot read it.
    """
    if not 0 < threshold < 100:
        raise UsageError(f"threshold {threshold:g}: expected a share above 0, such as 0.1 for 10 %")
    if repeat < 1:
        raise UsageError(f"repeat {repeat}: expected at least 1")
    opened = suite if isinstance(suite, Suite) else open_suite(suite, trust=trust)
    specs = _named(first, second)
    for unit in units or ():
        opened.unit(unit)
    for spec in specs:
        _check(spec)
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        sides = [
            stack.enter_context(_Side(spec, opened, scratch, timeout_s, on_step)) for spec in specs
        ]
        pair = _Pair(sides[0], sides[1], on_step)
        pair.replay(None if units is None else list(units), repeat)
        speeds, reasons = pair.speeds(threshold) if is_timed else ({}, {})
        results = (sides[0].result, sides[1].result)
    changes = tuple(
        _unit_change(name, sides, speeds.get(name), reasons.get(name, ""), is_slower_regression)
        for name in dict.fromkeys([*sides[0].units, *sides[1].units])
    )
    return BuildComparison(
        suite=str(opened.folder if isinstance(suite, Suite) else suite),
        builds=results,
        threshold=threshold,
        is_slower_regression=is_slower_regression,
        units=changes,
        exit_code=exit_code(results, changes),
    )


def _named(first: BuildSpec, second: BuildSpec) -> tuple[BuildSpec, BuildSpec]:
    named = replace(first, name=first.name or "A"), replace(second, name=second.name or "B")
    if named[0].name == named[1].name:
        raise UsageError(f"both builds have the name {named[0].name!r}: give them different ones")
    return named


def _check(spec: BuildSpec) -> None:
    """Refuse at once what this environment's TVM does not know; another one may know more."""
    if spec.python is not None or spec.environment:
        return
    try:
        check_session(spec.session, parse_target(spec.target, spec.session))
    except UsageError as error:
        raise UsageError(f"{spec.name}: {error}") from error


class _Side:
    """One build: its process while it lives, and what it found."""

    def __init__(
        self, spec: BuildSpec, suite: Suite, scratch: Path, timeout_s: float, on_step: Told
    ) -> None:
        self._suite = suite
        self._scratch = scratch
        self._on_step = on_step
        self.name = spec.name
        self.units: Units = {}
        self.process: BuildProcess | None = None
        self.result = BuildResult(
            name=spec.name,
            target=spec.target,
            session=spec.session,
            device_pipeline=spec.device_pipeline,
            python="this one" if spec.python is None else str(spec.python),
            environment=dict(spec.environment),
        )
        on_step(f"{spec.name}: starting")
        try:
            self.process = BuildProcess(
                spec, without_torch=_is_without_torch(spec), timeout_s=timeout_s
            )
            place = self.process.place
            versions = {"relax-tapml": version("relax-tapml"), **place.versions}
            self.result = replace(
                self.result, versions=versions, tvm=place.tvm, package=place.package
            )
            self._open()
        except DeviceUnavailable as error:
            self.fail(error)
        except BaseException:
            self.__exit__()
            raise

    def _open(self) -> None:
        assert self.process is not None
        suite, trust = self._suite, self._suite.trust
        own = self.result.versions["apache-tvm"]
        if own == version("apache-tvm"):
            self.process.open(suite.folder, scripts=None, trust=trust)
            return
        try:
            self.process.open(suite.folder, scripts=None, trust=trust)
        except StoreError:
            # This process has read it, so it is sound, and only that TVM cannot.
            self._on_step(f"{self.name}: giving the suite to TVM {own} as TVMScript")
            write_scripts(suite, self._scratch)
            self.process.open(suite.folder, scripts=self._scratch, trust=trust)
            self.result = replace(self.result, is_transcribed=True)

    def fail(self, error: Exception) -> None:
        """Note why this build says nothing more."""
        self.result = replace(self.result, reason=str(error).removeprefix(f"{self.name}: "))
        self.__exit__()

    def replay(self, units: list[str] | None, repeat: int, seed: int) -> Units:
        """Return how units ended, by name; none if the build could not be replayed."""
        if self.process is None:
            return {}
        self._on_step(f"{self.name}: building and replaying")
        try:
            result = self.process.replay(
                units,
                repeat=repeat,
                seed=seed,
                on_unit=lambda done, total: self._on_step(
                    f"{self.name}: replayed {done} of {total}"
                ),
            )
        except DeviceUnavailable as error:
            self.fail(error)
            return {}
        return {unit.name: unit for unit in result.units}

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None


class _Pair:
    """Both builds."""

    def __init__(self, first: _Side, second: _Side, on_step: Told) -> None:
        self.first = first
        self.second = second
        self._on_step = on_step
        # The same in both, so that errors are.
        self._seed = secrets.randbits(62)

    def replay(self, units: list[str] | None, repeat: int) -> None:
        """Replay units in both; those that got worse once more."""
        for side in (self.first, self.second):
            side.units = side.replay(units, repeat, self._seed)
        doubted = [
            name
            for name, unit in self.second.units.items()
            if change_of(self.first.units.get(name), unit) is Change.BROKEN
            and unit.verdict is not Verdict.BUILD_ERROR
        ]
        if doubted:
            self._confirm(doubted)

    def _confirm(self, doubted: list[str]) -> None:
        """Run units again: what fails now and then is flaky, in whichever build it failed first."""
        again = self.first.replay(doubted, _CONFIRMING_RUNS, self._seed)
        for name, unit in again.items():
            if not passed(unit):
                self.first.units[name] = _flaky(self.first.units[name], unit)
        again = self.second.replay(doubted, 1, self._seed)
        for name, unit in again.items():
            if passed(unit):
                self.second.units[name] = _flaky(self.second.units[name], unit)

    def speeds(self, threshold: float) -> tuple[dict[str, SpeedChange], dict[str, str]]:
        """Time what runs in both; return the speeds, and why some have none."""
        first, second = self.first.units, self.second.units
        if self.first.process is None or self.second.process is None:
            return {}, {}
        names = [name for name in second if can_be_timed(first.get(name), second[name])]
        speeds: dict[str, SpeedChange] = {}
        reasons: dict[str, str] = {}
        for number, name in enumerate(names):
            self._on_step(f"timed {number} of {len(names)}")
            try:
                case, reason, sessions = self._sessions(name, len(names), threshold)
            except DeviceUnavailable as error:
                reasons[name] = str(error)
                if self._is_lost():
                    reasons.update(dict.fromkeys(names[number:], str(error)))
                    break
                continue
            if reason:
                reasons[name] = reason
            else:
                speeds[name] = _speed(case, sessions, len(names), threshold)
        return speeds, reasons

    def _sessions(
        self, unit: str, units: int, threshold: float
    ) -> tuple[str, str, list[list[Round]]]:
        """Time a unit; as long as it seems to have changed, in further sessions.

        A process may be slow from its start to its end, by where its memory lies.
        """
        first, second = self.first.process, self.second.process
        assert first is not None
        assert second is not None
        sessions: list[list[Round]] = []
        while True:
            case, reason, rounds = self._rounds(unit, rounds_for(units))
            if reason:
                return case, reason, []
            sessions.append(rounds)
            is_changed = pace_of(rounds, units, threshold) is not Pace.UNCHANGED
            if not is_changed or len(sessions) == _SESSIONS:
                return case, "", sessions
            first.renew()
            second.renew()

    def _rounds(self, unit: str, count: int) -> tuple[str, str, list[Round]]:
        first, second = self.first.process, self.second.process
        assert first is not None
        assert second is not None
        case, reason = first.prepare(unit)
        _, other = second.prepare(unit)
        if reason or other:
            return case, reason or other, []
        return case, "", in_turns(first.turn, second.turn, count)

    def _is_lost(self) -> bool:
        """Whether a process has ended."""
        for side in (self.first, self.second):
            assert side.process is not None
            try:
                side.process.renew()
            except DeviceUnavailable:
                return True
        return False


def _flaky(first: ReplayedUnit, again: ReplayedUnit) -> ReplayedUnit:
    reason = first.reason or again.reason
    return replace(
        first,
        verdict=Verdict.FLAKY,
        reason=f"another run ended otherwise: {first.verdict}, then {again.verdict} ({reason})",
        failures=max(1, first.failures + again.failures),
        runs=first.runs + again.runs,
    )


def _speed(
    case: str, sessions: Sequence[Sequence[Round]], units: int, threshold: float
) -> SpeedChange:
    paces = {pace_of(rounds, units, threshold) for rounds in sessions}
    every = [one for rounds in sessions for one in rounds]
    low, high = spread(every, units)
    return SpeedChange(
        case=case,
        rounds=len(every),
        seconds=(
            statistics.median(first for first, _ in every),
            statistics.median(second for _, second in every),
        ),
        ratio=statistics.median(ratios(every)),
        low=low,
        high=high,
        pace=paces.pop() if len(paces) == 1 else Pace.UNCHANGED,
    )


def _unit_change(
    name: str,
    sides: Sequence[_Side],
    speed: SpeedChange | None,
    speed_reason: str,
    is_slower_regression: bool,
) -> UnitChange:
    first, second = (side.units.get(name) for side in sides)
    change = change_of(first, second)
    is_slower = speed is not None and speed.pace is Pace.SLOWER
    return UnitChange(
        name=name,
        units=(
            None if first is None else built_unit(first),
            None if second is None else built_unit(second),
        ),
        change=change,
        is_regression=change is Change.BROKEN or (is_slower and is_slower_regression),
        speed=speed,
        speed_reason=speed_reason,
    )


def _is_without_torch(spec: BuildSpec) -> bool:
    """Whether TVM runs a target without torch; where it is not known here, torch is imported."""
    try:
        return str(parse_target(spec.target).kind.name) == "llvm"
    except UsageError:
        return False
