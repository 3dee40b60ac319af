"""Run carved cases on a device, one unit alone at a time, and judge the results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relax_tapml.arrays import Array
from relax_tapml.compare.repeat import SETTLED, is_failure, repeated
from relax_tapml.compare.verdict import FAULTS, Verdict
from relax_tapml.errors import DeviceError, DeviceFault
from relax_tapml.files.closing import Closing
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.partition.device_side import DeviceSide, device_side
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.replays.unit._case_call import CaseCaller
from relax_tapml.replays.unit._replay_session import ReplaySession
from relax_tapml.replays.unit.case_replay import CaseReplay, aggregate_rounds, faulted, judged
from relax_tapml.replays.unit.unit_programs import UnitPrograms
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.model_beside import model_beside
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.open_session import open_device
from relax_tapml.targets.session.attempts import retry_if_killed, was_killed
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.poison import Poison
from relax_tapml.targets.session.session import DeviceModule, DeviceTensor
from relax_tapml.targets.session.traffic import Traffic


class Replayer(Closing):
    """One device and the kernels of a suite's units, built and loaded together when first used.

    A unit whose kernel does not build, or cannot be loaded, does not keep the others from running.
    After a crash, a timeout or an error the rest goes on in a fresh session, because a failed
    kernel may leave a device unusable. A failure counts against a unit only if it also happens when
    no other unit has run in its session: a migration finds what fails in the context of others. A
    device in this process has no fresh sessions, so there every failure counts.

    Parameters
    ----------
    suite
        From ``open_suite``.
    target
        The ``tvm.target.Target`` to build for.
    session
        As for ``open_session``.
    device_pipeline
        A Relax pass applied before units are scheduled and built, or None: to the whole model where
        its output folder is that of the suite, or else to the units.
    side
        What it made of the model, if that is known.
    kernels
        Folder of cached kernels. None for ``kernels`` next to the suite where there is one, or
        else a temporary folder.
    timeout_s
        How long one call on the device may take.
    units
        The units that will be run; all by default.
    device
        Shared with others, instead of a new one for ``session``: it is left open at the end (unless
        it is one of many), and its sessions limit how long a call may take. A session that it has
        already is not fresh.
    programs
        Shared with other replayers, instead of those that the options above describe.
    is_one_of_many
        Whether other devices may repeat what fails. Then a failure after other units in the session
        is returned with its ``context``, and a crash or a timeout is not run again.
    seed
        Of the pattern that memory holds before each call; drawn if it is None.
    on_outputs
        Called with each case that was run to its end, and with what it returned.
    """

    def __init__(
        self,
        suite: Suite,
        *,
        target: Any,
        session: str,
        device_pipeline: Any = None,
        side: DeviceSide | None = None,
        kernels: Path | None = None,
        timeout_s: float = 60.0,
        units: Sequence[str] | None = None,
        device: Device | None = None,
        programs: UnitPrograms | None = None,
        is_one_of_many: bool = False,
        seed: int | None = None,
        on_outputs: Callable[[SuiteCase, Sequence[Array]], None] = lambda _case, _outputs: None,
    ) -> None:
        self.suite = suite
        self._on_outputs = on_outputs
        self._poison = Poison.draw() if seed is None else Poison(seed=seed)
        self._is_ours = device is None
        self._is_one_of_many = is_one_of_many
        self._device = device or open_device(session, target, timeout_s=timeout_s)
        self._session = ReplaySession(self._device)
        self._temporary = ScratchFolder()
        self._unloadable: dict[tuple[str, str], str] = {}
        self._programs = programs or suite_programs(
            suite,
            target=target,
            device_pipeline=device_pipeline,
            side=side,
            library=KernelLibrary(
                kernels or kernels_beside(suite) or self._temporary.path,
            ),
            units=units,
        )
        self._caller = CaseCaller(suite, self._programs, self._poison)

    def close(self) -> None:
        """End the device session, unless it is shared, and remove temporary kernels."""
        self._caller.close()
        if self._is_ours or self._is_one_of_many:
            self._session.renew()
        self._temporary.close()

    def on(self, device: Device) -> Replayer:
        """Return what replays the same units on one of many devices, in a thread of its own."""
        return Replayer(
            self.suite,
            target=None,
            session="",
            device=device,
            programs=self._programs,
            is_one_of_many=True,
            seed=self.seed,
        )

    @property
    def seed(self) -> int:
        """Of the pattern that memory holds before each call."""
        return self._poison.seed

    def build(self) -> None:
        """Build the units that will be run, unless that is done; ``run`` does it otherwise."""
        self._programs.build()

    @property
    def unbuilt(self) -> frozenset[str]:
        """Units that cannot be run on any device; empty before ``build``."""
        return frozenset(self._programs.failed)

    def expect(self, cases: Iterable[tuple[str, SuiteCase]]) -> None:
        """Tell which cases will be run, with their units, in order.

        The tensors of the next ones are made in a thread meanwhile, if they are large.
        """
        self._caller.expect(cases)

    def run(self, unit: str, case: SuiteCase, *, repeat: int = 1) -> CaseReplay:
        """Run one case ``repeat`` times and compare every output with its oracle.

        A case that fails is run again, see ``compare.repeat.repeated``.

        Raises
        ------
        DeviceUnavailable
            No session could be opened.
        StoreError
            A file of the suite cannot be read.
        """
        self.build()
        rounds: list[CaseReplay] = []

        def once() -> CaseReplay:
            rounds.append(self._alone(unit, case))
            return rounds[-1]

        try:
            return aggregate_rounds(repeated(once, repeat))
        except _RepeatElsewhere as failure:
            last = failure.case
            return last if last.context else aggregate_rounds([*rounds, last])

    def call_often(self, unit: str, case: SuiteCase, times: int) -> tuple[int, CaseReplay]:
        """Call a unit again and again in a session of its own, until it fails.

        Parameters
        ----------
        unit, case
            What to call.
        times
            How often at most; at least once.

        Returns
        -------
        tuple
            How many calls were made, and how the last one ended that was compared: results that
            are the bytes of an earlier one are not.

        Raises
        ------
        DeviceUnavailable
            No session could be opened.
        """
        self.build()

        def once() -> tuple[int, CaseReplay, bool]:
            self._session.renew()
            try:
                return self._called_often(unit, case, times)
            finally:
                self._session.renew()

        made, ended, _ = retry_if_killed(once, lambda found: found[2])
        return made, ended

    def _called_often(self, unit: str, case: SuiteCase, times: int) -> tuple[int, CaseReplay, bool]:
        """Do what ``call_often`` does, in one session; return also whether that was killed."""
        right: list[bytes] = []
        arguments: list[DeviceTensor] = []
        result = CaseReplay(unit=unit, case=case, verdict=Verdict.SKIPPED)
        for number in range(1, times + 1):
            try:
                module = self._load(unit)
                if module is None:
                    return number, self._unbuilt(unit, case), False
                session = self._session.open()
                if not arguments or case.may_write:
                    arguments = self._caller.arguments(session, case)
                called = self._caller.call(session, module, unit, case, arguments)
            except DeviceFault as fault:
                return number, faulted(unit, case, fault), was_killed(fault)
            returned = [output.tobytes() for output in called.outputs]
            if returned == right and not called.overruns:
                continue
            result = judged(self.suite, unit, case, called.outputs, called.overruns)
            if is_failure(result.verdict):
                return number, result, False
            right = returned
        return times, result, False

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has run in the session yet that could cause a failure."""
        return not self._session.context("")

    def open(self, *, is_fresh: bool = False) -> str:
        """Open a session unless one is open, and return the name of its device.

        Parameters
        ----------
        is_fresh
            Whether one is needed in which nothing has run.

        Raises
        ------
        DeviceUnavailable
            None could be opened.
        """
        if is_fresh and not self.is_fresh:
            self._session.renew()
        self._session.open()
        return self._device.name

    @property
    def traffic(self) -> Traffic:
        """What has crossed, in all sessions of the device so far."""
        return self._device.traffic

    def _alone(self, unit: str, case: SuiteCase) -> CaseReplay:
        """Run a case; if it fails after other units in the session, run it again in a fresh one."""
        first, context = self._round(unit, case)
        if self._is_one_of_many and (
            first.verdict in FAULTS or (context and is_failure(first.verdict))
        ):
            raise _RepeatElsewhere(replace(first, context=context, failures=1))
        if not context or first.verdict in SETTLED:
            return first
        alone, _ = self._round(unit, case)
        if is_failure(alone.verdict):
            return alone
        others = ", ".join(context)
        note = f"it passes alone, but failed after {others} in the same session: {first.reason}"
        reason = f"{alone.reason}; {note}" if alone.reason else note
        return replace(alone, reason=reason, text=first.text)

    def _round(self, unit: str, case: SuiteCase) -> tuple[CaseReplay, tuple[str, ...]]:
        """Run a case once; return how it ended, and what had run in the session before."""

        def once() -> tuple[CaseReplay, bool, bool]:
            try:
                return (*self._attempt(unit, case), False)
            except DeviceFault as fault:
                is_killed = was_killed(fault)
                if is_killed:
                    self._session.renew()
                return faulted(unit, case, fault), True, is_killed

        result, is_damaged, _ = retry_if_killed(once, lambda ended: ended[2])
        if unit not in self._programs.failed:  # Those fail on no device in particular.
            result = replace(result, device=self._device.name)
        context = self._session.context(unit)
        is_suspect = is_failure(result.verdict) and result.verdict is not Verdict.BUILD_ERROR
        if is_damaged or (is_suspect and context):
            self._session.renew()
        return result, context

    def _attempt(self, unit: str, case: SuiteCase) -> tuple[CaseReplay, bool]:
        """Run a case; return how it ended, and whether the session must not be used again."""
        module = self._load(unit)
        if module is None:
            return self._unbuilt(unit, case), False
        session = self._session.open()
        self._session.note_run(unit)
        done = self._caller.checked_call(session, module, unit, case)
        self._on_outputs(case, done.outputs)
        result = judged(self.suite, unit, case, done.outputs, done.violations)
        return replace(result, unwritten=done.unwritten), done.is_damaging

    def _unbuilt(self, unit: str, case: SuiteCase) -> CaseReplay:
        reason = self._programs.failed.get(unit) or self._unloadable[unit, self._device.name]
        verdict = Verdict.SKIPPED if unit in self._programs.unjudged else Verdict.BUILD_ERROR
        return CaseReplay(unit=unit, case=case, verdict=verdict, reason=reason)

    def _load(self, unit: str) -> DeviceModule | None:
        """Return a unit's program on the device; None if it has none that the device can load."""
        while unit not in self._programs.failed:
            self._session.open()
            if (unit, self._device.name) in self._unloadable:
                return None
            program = self._programs.program(unit)
            try:
                return self._session.load(program)
            except DeviceFault as fault:
                if not isinstance(fault, DeviceError) and self._device.is_gone():
                    raise
                if self._programs.split(unit, program):
                    self._session.renew()
                elif isinstance(fault, DeviceError):
                    # The device runs but cannot link it: it needs what the device's runtime lacks.
                    self._unloadable[unit, self._device.name] = (
                        f"the device cannot load it: {fault}"
                    )
                else:
                    raise
        return None


class _RepeatElsewhere(Exception):  # noqa: N818 - it ends the rounds of a case, and is no error
    """A failure to be repeated on another device, or as the first in a session."""

    def __init__(self, case: CaseReplay) -> None:
        super().__init__()
        self.case = case


def suite_programs(
    suite: Suite,
    *,
    target: Any,
    device_pipeline: Any,
    library: KernelLibrary,
    side: DeviceSide | None = None,
    units: Sequence[str] | None = None,
) -> UnitPrograms:
    """Return what calls the units of a suite on a target; nothing is built yet.

    Parameters
    ----------
    suite, target, device_pipeline, side, units
        As for ``Replayer``.
    library
        Where kernels are kept.
    """
    if side is None and device_pipeline is not None:
        side = _side_beside(suite, target, device_pipeline)
    return UnitPrograms(
        suite,
        target=target,
        pipeline=device_pipeline,
        side=None if side is None else side.units,
        unjudged=None if side is None else side.unjudged,
        library=library,
        units=tuple(suite.manifest.units) if units is None else units,
    )


def _side_beside(suite: Suite, target: Any, pipeline: Any) -> DeviceSide | None:
    """Apply a pipeline to the model beside a suite; None where there is none."""
    lowered = model_beside(suite)
    return (
        None if lowered is None else device_side(lowered, target, pipeline, suite.target_kernels())
    )


def kernels_beside(suite: Suite) -> Path | None:
    """Return the folder ``kernels`` next to a suite; None unless it is there and writable."""
    folder = suite.folder.parent / "kernels"
    return folder if folder.is_dir() and os.access(folder, os.W_OK) else None
