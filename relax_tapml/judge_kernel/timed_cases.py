"""Calls that are timed, each with inputs that no call had before, and judged like all others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from relax_tapml.arrays import Array
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceError
from relax_tapml.judge_kernel._call_layout import Arguments
from relax_tapml.judge_kernel.callable_process import CallableProcess
from relax_tapml.judge_kernel.candidate_kernel import CandidateKernel
from relax_tapml.judge_kernel.case_suite import CaseSuite
from relax_tapml.judge_kernel.primfunc_run import programs
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.submodule import submodule
from relax_tapml.replays.unit.case_replay import judged
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.poison import Poison

_COPY = "copy_bytes"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was timed.

    Parameters
    ----------
    seconds, own_seconds, copy_seconds
        Medians of the candidate, of the unit's own kernel, and of a copy of as many bytes.
    is_right
        Whether all calls of the candidate that were timed gave what they should have.
    """

    seconds: float
    own_seconds: float
    copy_seconds: float
    is_right: bool


class DeviceClock:
    """Times single calls of a function of a module, its kernels without guards.

    Raises
    ------
    DeviceError
        It does not build.
    """

    def __init__(
        self,
        module: tvm.IRModule,
        function: str,
        target: Any,
        device: Device,
        library: KernelLibrary,
    ) -> None:
        alone = submodule(module, {function: None})
        built = library.build(alone, target)
        if built.failed:
            raise DeviceError("; ".join(built.failed.values()))
        functions = compile_functions(alone, target, library)
        self._session, self._function = device.session, function
        self._loaded = self._session.load(
            functions.bytecode, (*functions.shape_functions, *built.files())
        )

    def __call__(self, inputs: Sequence[Array]) -> tuple[float, list[Array]]:
        """Do a call with tensors of its own; return how long it took, and what it returned."""
        given = [self._session.upload(array) for array in inputs]
        seconds, outputs = self._session.timed(self._loaded, self._function, given)
        return seconds, [self._session.download(tensor) for tensor in outputs]


def time_cases(
    candidate: CandidateKernel,
    suite: CaseSuite,
    first: SuiteCase,
    cases: Sequence[SuiteCase],
    *,
    target: Any,
    device: Device,
    library: KernelLibrary,
    timeout_s: float,
) -> Timed:
    """Time a candidate, the unit's own kernel and a copy in turns, a call for each case.

    Every call has inputs and memory of its own, so whatever a kernel has kept or finds in its
    outputs is wrong, and what a timed call leaves is judged.

    Parameters
    ----------
    candidate
        It has passed.
    suite, cases
        Cases of one function that have run nowhere.
    first
        Another one, for a call that is not timed: what is loaded or compiled then does not count.
    target, device, library, timeout_s
        As for ``speed.measure``.

    Raises
    ------
    DeviceFault
        A call failed.
    LoweringError
        The unit's own kernel does not build for the target.
    """
    [unit] = suite.manifest.units
    function = first.function

    def clock(code: tirx.PrimFunc | None) -> DeviceClock:
        module = programs(suite, target, library, code).implementation(unit)
        return DeviceClock(module, function, target, device, library)

    def arrays(case: SuiteCase) -> tuple[list[Array], list[Array]]:
        return (
            [suite.tensor(item.tensor) for item in case.inputs],
            [suite.tensor(output.tensor) for output in case.outputs],
        )

    size = sum(array.nbytes for some in arrays(first) for array in some)
    copy = DeviceClock(_copy_module(size), "main", target, device, library)
    random = np.random.default_rng()
    own = clock(None)
    with ExitStack() as stack:
        if isinstance(candidate.code, tirx.PrimFunc):
            timed = clock(candidate.code)
        else:
            process = stack.enter_context(
                CallableProcess(candidate.code, target, timeout_s=timeout_s, seed=0)
            )
            arguments = Arguments.of(suite.target_module(unit), function, len(first.outputs))
        times: tuple[list[float], list[float], list[float]] = ([], [], [])
        is_right = True
        for case in (first, *cases):
            inputs, like = arrays(case)
            violations: list[str] = []
            if isinstance(candidate.code, tirx.PrimFunc):
                seconds, outputs = timed(inputs)
            else:
                seconds, called = process.timed(arguments, inputs, like, Poison.draw())
                outputs, violations = called.outputs, called.violations
            ended = judged(suite, unit, case, outputs, violations)
            is_right = is_right and ended.verdict is Verdict.PASS
            own_seconds, _ = own(inputs)
            copy_seconds, _ = copy([random.random(_floats(size), dtype=np.float32)])
            if case is not first:
                for some, one in zip(times, (seconds, own_seconds, copy_seconds), strict=True):
                    some.append(one)
    seconds, own_seconds, copy_seconds = map(statistics.median, times)
    return Timed(
        seconds=seconds, own_seconds=own_seconds, copy_seconds=copy_seconds, is_right=is_right
    )


def _floats(size_bytes: int) -> int:
    """Return how many float32 values a copy reads, and writes, to move so many bytes."""
    return max(1, size_bytes // 8)


def _copy_module(size_bytes: int) -> tvm.IRModule:
    """Return a module whose ``main`` copies a vector."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((_floats(size_bytes),), "float32"))
    with builder.function("main", [x]):
        copied = builder.emit_te(
            lambda a: te.compute(a.shape, lambda i: a[i], name=_COPY), x, primfunc_name_hint=_COPY
        )
        builder.emit_func_output(copied)
    return builder.get()
