"""How fast a kernel is that passed, beside the unit's own one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tvm import tirx

from relax_tapml.judge_kernel._call_layout import Arguments
from relax_tapml.judge_kernel.callable_process import CallableProcess
from relax_tapml.judge_kernel.candidate_kernel import CandidateKernel
from relax_tapml.judge_kernel.primfunc_run import programs
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.replays.unit.timed_call import (
    Clock,
    calls_of_round,
    case_arrays,
    case_bytes,
    largest_case,
    timed_call,
)
from relax_tapml.results.kernel_report import SpeedResult
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device

_ROUNDS = 9


def measure(
    candidate: CandidateKernel,
    suite: Suite,
    cases: Sequence[SuiteCase],
    *,
    target: Any,
    device: Device,
    library: KernelLibrary,
    timeout_s: float,
) -> SpeedResult:
    """Time a candidate and the unit's own kernel in turns, on the largest recorded case.

    Parameters
    ----------
    candidate
        It has passed.
    suite, cases
        Of one unit; cases that are no probes are looked at.
    target, device, library
        Where kernels run, and where they are kept.
    timeout_s
        How long one call of a Python callable may take.

    Raises
    ------
    DeviceFault
        A call failed, or the device has no clock.
    LoweringError
        The unit's own kernel does not build for the target.
    """
    case = largest_case(suite, cases)
    own = _on_device(suite, case, target, device, library, None)
    if isinstance(candidate.code, tirx.PrimFunc):
        clock = "events of the device" if target.kind.name != "llvm" else "the device's process"
        return _result(
            suite,
            case,
            _on_device(suite, case, target, device, library, candidate.code),
            own,
            clock,
        )
    inputs, like = case_arrays(suite, case)
    arguments = Arguments.of(suite.target_module(_unit(suite)), case.function, len(like))
    with CallableProcess(candidate.code, target, timeout_s=timeout_s, seed=0) as process:
        return _result(
            suite,
            case,
            lambda calls: process.seconds(arguments, inputs, like, calls),
            own,
            f"the callable's process ({candidate.code.arrays}), and that of the device",
        )


def _result(suite: Suite, case: SuiteCase, given: Clock, own: Clock, clock: str) -> SpeedResult:
    clocks = (given, own)
    calls = [calls_of_round(one) for one in clocks]
    rounds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for times, one, count in zip(rounds, clocks, calls, strict=True):
            times.append(one(count))
    seconds, own_seconds = map(statistics.median, rounds)
    size = case_bytes(suite, case)
    return SpeedResult(
        case=case.name,
        clock=clock,
        rounds=_ROUNDS,
        calls=calls[0],
        seconds=seconds,
        own_seconds=own_seconds,
        ratio=own_seconds / seconds,
        bytes=size,
        bytes_per_s=size / seconds,
        own_bytes_per_s=size / own_seconds,
    )


def _on_device(
    suite: Suite,
    case: SuiteCase,
    target: Any,
    device: Device,
    library: KernelLibrary,
    candidate: tirx.PrimFunc | None,
) -> Clock:
    module = programs(suite, target, library, candidate).implementation(_unit(suite))
    return timed_call(module, suite, case, target=target, library=library, device=device)


def _unit(suite: Suite) -> str:
    [unit] = suite.manifest.units
    return unit
