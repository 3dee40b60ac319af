"""How fast a kernel is that passed, beside the unit's own one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from relax_tapml.arrays import Array
from relax_tapml.errors import DeviceError
from relax_tapml.judge_kernel._call_layout import Arguments
from relax_tapml.judge_kernel.callable_process import CallableProcess
from relax_tapml.judge_kernel.candidate_kernel import CandidateKernel
from relax_tapml.judge_kernel.primfunc_run import programs
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.submodule import submodule
from relax_tapml.results.kernel_report import SpeedResult
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device

_ROUNDS = 9
_ROUND_S = 0.01  # The overhead of a round is small beside that.
_MOST_CALLS = 1000

Clock = Callable[[int], float]
"""Does so many calls and returns how long one takes, in seconds."""


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
    case = max((one for one in cases if not one.is_probe), key=lambda one: _bytes(suite, one))
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
    inputs, like = _arrays(suite, case)
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
    for one in clocks:
        one(1)  # What is loaded or compiled on the first call.
    calls = [max(1, min(_MOST_CALLS, int(_ROUND_S / max(one(1), 1e-9)))) for one in clocks]
    rounds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for times, one, count in zip(rounds, clocks, calls, strict=True):
            times.append(one(count))
    seconds, own_seconds = map(statistics.median, rounds)
    size = _bytes(suite, case)
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
    """Build a kernel without guards and return what times it."""
    module = programs(suite, target, library, candidate).implementation(_unit(suite))
    alone = submodule(module, {case.function: None})
    built = library.build(alone, target)
    if built.failed:
        raise DeviceError("; ".join(built.failed.values()))
    functions = compile_functions(alone, target, library)
    session = device.session
    loaded = session.load(functions.bytecode, (*functions.shape_functions, *built.files()))
    given = [session.upload(array) for array in _arrays(suite, case)[0]]
    return lambda calls: session.seconds(loaded, case.function, given, calls)


def _unit(suite: Suite) -> str:
    [unit] = suite.manifest.units
    return unit


def _arrays(suite: Suite, case: SuiteCase) -> tuple[list[Array], list[Array]]:
    return (
        [suite.tensor(item.tensor) for item in case.inputs],
        [suite.tensor(output.tensor) for output in case.outputs],
    )


def _bytes(suite: Suite, case: SuiteCase) -> int:
    return sum(array.nbytes for arrays in _arrays(suite, case) for array in arrays)
