"""The verdict on a kernel that somebody wrote for a unit of a suite."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from relax_tapml.arrays import Array
from relax_tapml.compare.verdict import FAULTS, Verdict
from relax_tapml.errors import DeviceFault, LoweringError, UsageError
from relax_tapml.files.machine import machine_errors
from relax_tapml.files.scratch import scratch_folder
from relax_tapml.judge_kernel._callable_cases import OnOutputs, run_cases
from relax_tapml.judge_kernel.callable_process import CallableProcess
from relax_tapml.judge_kernel.candidate_kernel import (
    CandidateKernel,
    check_interface,
    load_kernel,
)
from relax_tapml.judge_kernel.case_suite import CaseSuite, with_cases
from relax_tapml.judge_kernel.held_out import HeldOut, hold_out
from relax_tapml.judge_kernel.primfunc_run import own_kernel, programs
from relax_tapml.judge_kernel.source_file import SourceFile
from relax_tapml.judge_kernel.speed import measure
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.cache_call import reads_cache
from relax_tapml.replays.results import case_power, case_result, first_mismatch
from relax_tapml.replays.unit.power_check import check_power
from relax_tapml.replays.unit.replayer import Replayer, kernels_beside
from relax_tapml.replays.unit.unit_replay import UnitReplay, replay_unit, unit_replay
from relax_tapml.results.kernel_report import HeldOutResult, KernelReport, SpeedResult
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.targets.open_session import check_session, open_device
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.session.device import Device

HELD_OUT = 8
"""How many cases of recorded shapes are held out by default."""

_LOCAL = ("process", "inline")


@machine_errors("judging a kernel")
def verify(
    suite: Suite | Path | str,
    unit: str,
    kernel: str | Path | tirx.PrimFunc | tvm.IRModule | CandidateKernel,
    *,
    target: Any = "llvm",
    session: str = "process",
    repeat: int = 2,
    held_out: int = HELD_OUT,
    is_timed: bool = True,
    timeout_s: float = 60.0,
    trust: bool = False,
) -> KernelReport:
    """Judge a kernel by the cases of a unit, and by others that are made for this call alone.

    Parameters
    ----------
    suite
        A suite, or an output folder with one in ``tests``.
    unit
        The unit that the kernel is for.
    kernel
        ``FILE`` or ``FILE:NAME``: a PrimFunc or an IRModule in TVMScript, a function of NumPy
        arrays or torch tensors, or the ``.json`` of an IRModule; or a PrimFunc, or an IRModule.
    target
        A target string, JSON, or ``tvm.target.Target`` to build and run for.
    session
        Where the device is, as for ``open_session``. A Python callable runs in a process of its
        own on this machine.
    repeat
        How often each case is run.
    held_out
        How many cases of recorded shapes are made for this call alone; those of other shapes are
        further ones.
    is_timed
        Whether a kernel that passes is timed.
    timeout_s
        How long one call may take.
    trust
        Whether suite and kernel may call functions that are not known to be harmless.

    Returns
    -------
    KernelReport
        ``inconclusive`` where no case could be held out: a kernel that was fitted to the files of
        the suite would pass, too.

    Raises
    ------
    UsageError
        The suite has no such unit, the file holds no kernel, its interface is another one, or the
        target or session is not known.
    StoreError
        The suite or the file is damaged, or calls what is not known to be harmless.
    DeviceUnavailable
        No session could be opened.
    """
    if repeat < 1:
        raise UsageError(f"repeat {repeat}: expected at least 1")
    if held_out < 1:
        raise UsageError(f"held_out {held_out}: expected at least 1")
    parsed = parse_target(target, session) if isinstance(target, str) else target
    check_session(session, parsed)
    opened = suite if isinstance(suite, Suite) else open_suite(suite, parsed, trust=trust)
    opened.unit(unit)
    if lacking := opened.lacking(unit):
        raise UsageError(f"unit {unit}: {lacking}")
    candidate = (
        kernel
        if isinstance(kernel, CandidateKernel)
        else load_kernel(kernel, unit=unit, trust=trust)
    )
    with scratch_folder() as folder:
        if not isinstance(candidate, CandidateKernel):
            own = own_kernel(opened, unit)[1]
            code = (
                candidate.primfunc(own, unit, parsed)
                if isinstance(candidate, SourceFile)
                else candidate.primfunc(own, unit, target=parsed, session=session, folder=folder)
            )
            candidate = CandidateKernel(text=str(kernel), code=code)
        if isinstance(candidate.code, tirx.PrimFunc):
            check_interface(candidate.code, own_kernel(opened, unit)[1], unit)
        elif reads_cache(unit):
            raise UsageError(
                f"unit {unit} takes a KV cache, which a Python callable cannot be given"
            )
        seed = secrets.randbits(62)
        library = KernelLibrary(kernels_beside(opened) or folder)
        judge = _Judge(candidate, parsed, session, library, timeout_s, repeat, seed)
        try:
            return judge.report(
                hold_out(opened, unit, count=held_out, seed=seed), is_timed=is_timed
            )
        finally:
            judge.device.close()


class _Judge:
    """Runs one candidate."""

    def __init__(
        self,
        candidate: CandidateKernel,
        target: Any,
        session: str,
        library: KernelLibrary,
        timeout_s: float,
        repeat: int,
        seed: int,
    ) -> None:
        self._candidate = candidate
        self._target = target
        self._session = session
        self._library = library
        self._timeout_s = timeout_s
        self._repeat = repeat
        self._seed = seed
        self.device = open_device(session, target, timeout_s=timeout_s)

    def report(self, held: HeldOut, *, is_timed: bool) -> KernelReport:
        """Run all cases, and say what there is to say."""
        [(unit, entry)] = held.suite.manifest.units.items()
        right = self._right(held)
        order = np.random.default_rng([self._seed, 17]).permutation(len(entry.cases))
        cases = [entry.cases[number] for number in order]
        cases = [one for one in cases if one.name not in held.names or one.name in right]
        suite = with_cases(held.suite, cases)
        seen = _Seen()
        ended = check_power(self._run(suite, seen.note))
        hidden = _part(ended, sorted(right))
        named = _part(ended, [case.name for case in entry.cases if case.name not in held.names])
        assert named is not None  # A unit of a suite has a case.
        shown = _without_names(named, held.names)
        dropped = len(held.names) - len(right)
        reasons = held.reasons
        if dropped:
            reasons = (*reasons, f"{dropped} that the unit's own kernel fails were dropped")
        verdict, reason = _verdict(ended, shown, hidden, reasons)
        decisive = shown.worst if shown.verdict.is_wrong else None
        output = _output(shown) if decisive is not None else None
        report = KernelReport(
            unit=unit,
            kernel=self._candidate.text,
            target=str(self._target.kind.name),
            verdict=verdict,
            reason=reason,
            first_case=shown.decisive_case if decisive is not None else None,
            first_output=output,
            first=None if decisive is None else first_mismatch(decisive),
            cases=tuple(map(case_result, shown.cases)),
            power=tuple(power for case in shown.cases for power in case_power(case)),
            held_out=HeldOutResult(
                count=len(right),
                boundary=len(right & held.boundary),
                passed=_passed(hidden),
                reasons=reasons,
            ),
            repeat=self._repeat,
            deterministic=seen.is_deterministic,
        )
        if verdict is not Verdict.PASS or not is_timed:
            return report
        return self._timed(report, suite, entry.cases)

    def _right(self, held: HeldOut) -> frozenset[str]:
        """Return the held-out cases that the unit's own kernel passes on a CPU.

        As when a suite is carved: a case that the unit itself fails says nothing of others.
        """
        cases = [
            c for c in held.suite.manifest.units[_unit(held.suite)].cases if c.name in held.names
        ]
        if not cases:
            return frozenset()
        is_here = self._target.kind.name == "llvm" and self._session in _LOCAL
        target = self._target if is_here else tvm.target.Target("llvm")
        suite = with_cases(held.suite, cases)
        suite = suite if is_here else replace(suite, target=None, low_precision_math=None)
        device = (
            self.device if is_here else open_device("process", target, timeout_s=self._timeout_s)
        )
        try:
            detail = self._replayed(suite, target, device, None, 1, lambda _case, _outputs: None)
        finally:
            if not is_here:
                device.close()
        return frozenset(one.case.name for one in detail.cases if one.verdict is Verdict.PASS)

    def _run(self, suite: CaseSuite, on_outputs: OnOutputs) -> UnitReplay:
        code = self._candidate.code
        if isinstance(code, tirx.PrimFunc):
            return self._replayed(suite, self._target, self.device, code, self._repeat, on_outputs)
        with CallableProcess(
            code, self._target, timeout_s=self._timeout_s, seed=self._seed
        ) as process:
            return unit_replay(_unit(suite), run_cases(suite, process, self._repeat, on_outputs))

    def _replayed(
        self,
        suite: CaseSuite,
        target: Any,
        device: Device,
        code: tirx.PrimFunc | None,
        repeat: int,
        on_outputs: OnOutputs,
    ) -> UnitReplay:
        with Replayer(
            suite,
            target=target,
            session="",
            device=device,
            programs=programs(suite, target, self._library, code),
            on_outputs=on_outputs,
        ) as replayer:
            return replay_unit(replayer, _unit(suite), repeat)

    def _timed(
        self, report: KernelReport, suite: CaseSuite, cases: Sequence[SuiteCase]
    ) -> KernelReport:
        speed: SpeedResult | None = None
        reason = ""
        try:
            speed = measure(
                self._candidate,
                suite,
                [case for case in cases if case.name in {one.name for one in report.cases}],
                target=self._target,
                device=self.device,
                library=self._library,
                timeout_s=self._timeout_s,
                seed=secrets.randbits(62),
            )
            if speed is None:
                why = "it is wrong in a call that was timed: it does less work then"
                return replace(report, verdict=Verdict.MISMATCH, reason=why)
        except (DeviceFault, LoweringError) as error:
            reason = f"it was not timed: {error}"
        return replace(report, speed=speed, speed_reason=reason)


class _Seen:
    """Whether all runs of a case gave the same bytes."""

    def __init__(self) -> None:
        self._first: dict[str, bytes] = {}
        self._compared = 0
        self._differing = 0

    def note(self, case: SuiteCase, outputs: Sequence[Array]) -> None:
        """Compare a run of a case with its first run."""
        digest = hashlib.sha256()
        for output in outputs:
            digest.update(np.ascontiguousarray(output).reshape(-1).view(np.uint8).data)
        if case.name not in self._first:
            self._first[case.name] = digest.digest()
            return
        self._compared += 1
        self._differing += digest.digest() != self._first[case.name]

    @property
    def is_deterministic(self) -> bool | None:
        """None if no case was run twice."""
        return self._differing == 0 if self._compared else None


def _unit(suite: Suite) -> str:
    [unit] = suite.manifest.units
    return unit


def _part(ended: UnitReplay, names: Sequence[str]) -> UnitReplay | None:
    """Return how some of the cases ended, in this order; None without any."""
    by_name = {one.case.name: one for one in ended.cases}
    cases = [by_name[name] for name in names if name in by_name]
    return unit_replay(ended.unit, cases) if cases else None


def _without_names(shown: UnitReplay, held: frozenset[str]) -> UnitReplay:
    """Return how the shown cases ended, without the name of a held-out case that ended them."""
    cases = tuple(
        replace(case, reason="not run: a held-out case ended with a fault")
        if case.verdict is Verdict.SKIPPED and any(name in case.reason for name in held)
        else case
        for case in shown.cases
    )
    return unit_replay(shown.unit, cases)


def _verdict(
    ended: UnitReplay, shown: UnitReplay, hidden: UnitReplay | None, reasons: Sequence[str]
) -> tuple[Verdict, str]:
    # Whichever case was the first to need it: a kernel that does not build has no case.
    unbuilt = next((c.reason for c in ended.cases if c.verdict is Verdict.BUILD_ERROR), None)
    if unbuilt is not None:
        return Verdict.BUILD_ERROR, unbuilt
    if shown.verdict.is_wrong:
        return shown.verdict, shown.reason
    if hidden is None:
        why = "; ".join(reasons)
        text = f"no case could be held out ({why}), so a kernel that was fitted to the suite"
        return Verdict.INCONCLUSIVE, f"{text} would pass, too"
    if hidden.verdict in FAULTS:
        return hidden.verdict, f"a held-out case ended in a {hidden.verdict}"
    if hidden.verdict.is_wrong:
        return Verdict.MISMATCH, "it is wrong in held-out cases"
    return ended.verdict, ended.reason


def _passed(hidden: UnitReplay | None) -> bool | None:
    if hidden is None:
        return None
    if hidden.verdict.is_wrong:
        return False
    return True if all(one.runs for one in hidden.cases) else None


def _output(shown: UnitReplay) -> int | None:
    """Return the number of the output that the worst comparison is of."""
    return next(
        (
            number
            for case in shown.cases
            for number, comparison in enumerate(case.comparisons)
            if comparison is shown.worst
        ),
        None,
    )
