"""How fast a kernel is that passed, beside the unit's own one and a copy of as many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from relax_tapml.errors import DeviceError
from relax_tapml.judge_kernel.candidate_kernel import CandidateKernel
from relax_tapml.judge_kernel.case_suite import CaseSuite
from relax_tapml.judge_kernel.held_out import is_small, timed_cases
from relax_tapml.judge_kernel.timed_cases import time_cases
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.results.kernel_report import SpeedResult
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.targets.session.device import Device

_CALLS = 9


def measure(
    candidate: CandidateKernel,
    suite: CaseSuite,
    cases: Sequence[SuiteCase],
    *,
    target: Any,
    device: Device,
    library: KernelLibrary,
    timeout_s: float,
    seed: int,
) -> SpeedResult | None:
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
    seed
        Of the inputs.

    Returns
    -------
    SpeedResult or None
        None if a call that was timed is wrong.

    Raises
    ------
    DeviceFault
        A call failed, the device has no clock, or no inputs can be made.
    LoweringError
        The unit's own kernel does not build for the target.
    """
    recorded = [one for one in cases if not one.is_probe]
    small = [one for one in recorded if is_small(suite, one)] or recorded
    case = max(small, key=lambda one: _bytes(suite, one))
    made = timed_cases(suite, case, count=_CALLS, seed=seed)
    if made is None:
        raise DeviceError("no inputs can be made that it has not seen")
    [entry] = made.manifest.units.values()
    new = entry.cases[-sum(one.name.startswith("timed-") for one in entry.cases) :]
    timed = time_cases(
        candidate,
        made,
        case,
        new,
        target=target,
        device=device,
        library=library,
        timeout_s=timeout_s,
    )
    if not timed.is_right:
        return None
    clock = "the device's process" if target.kind.name == "llvm" else "events of the device"
    if not isinstance(candidate.code, tirx.PrimFunc):
        clock = f"the callable's process ({candidate.code.arrays}), and that of the device"
    size = _bytes(suite, case)
    return SpeedResult(
        case=case.name,
        clock=clock,
        calls=len(new),
        seconds=timed.seconds,
        own_seconds=timed.own_seconds,
        ratio=timed.own_seconds / timed.seconds,
        bytes=size,
        bytes_per_s=size / timed.seconds,
        own_bytes_per_s=size / timed.own_seconds,
        copy_bytes_per_s=size / timed.copy_seconds,
        copy_share=timed.copy_seconds / timed.seconds,
    )


def _bytes(suite: CaseSuite, case: SuiteCase) -> int:
    tensors = [item.tensor for item in case.inputs] + [item.tensor for item in case.outputs]
    return sum(int(suite.tensor(digest).nbytes) for digest in tensors)
