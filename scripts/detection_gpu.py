"""Correct kernels of a suite's units, scheduled for a CUDA GPU and run there: which are blamed?

Each unit's PrimFunc, and variants of it that add in another order or use another formula, are
scheduled by each of TVM's rules for GPUs that takes them, tensor cores included, built with the
options that are in force, run on the cases of the suite, and compared as a replay would.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - makes bfloat16 known to NumPy
import tvm
import tvm_ffi
from detection_worker import last_line
from tvm import tirx
from tvm.s_tir import dlight
from tvm.s_tir.dlight.gpu import matmul

from mutation.guarded import untouched
from mutation.unit_cases import KernelCase, NotAKernelCallError, kernel_cases
from mutation.variants import variants
from mutation.variants.gpu import RULES, applied
from relax_tapml.arrays import Array
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.verdict import Verdict
from relax_tapml.suite.open_suite import Suite, open_suite

_RULES = {
    **RULES,
    "tensor cores": matmul.MatmulTensorization,
    "low batch GEMV": dlight.gpu.LowBatchGEMV,
}
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One kernel on the GPU.

    Parameters
    ----------
    unit, how
        Which, and how it was made.
    reason
        Why it is blamed; empty if it is not.
    unbuilt
        Why it did not run; empty if it did.
    low_precision
        Whether it is inside of its tolerance only for devices with low-precision functions.
    """

    unit: str
    how: str
    reason: str = ""
    unbuilt: str = ""
    low_precision: bool = False


def try_suite(folder: Path, per_kind: int, jobs: int) -> Iterator[Tried]:
    """Try every unit of a suite, ``jobs`` at a time: most of the time is nvcc's."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        units = open_suite(folder).manifest.units
        for found in pool.map(partial(_try_unit, folder, per_kind), units):
            yield from found


def _try_unit(folder: Path, per_kind: int, unit: str) -> list[Tried]:
    suite, target = open_suite(folder), tvm.target.Target.from_device(tvm.cuda(0))
    try:
        cases = kernel_cases(suite, unit)
    except NotAKernelCallError:
        return []
    made = list(_scheduled(cases.function, per_kind, target))
    parts = [made[first : first + _BATCH] for first in range(0, len(made), _BATCH)]
    wider = suite.low_precision()
    return [one for part in parts for one in _tried(suite, wider, unit, part, target)]


def _scheduled(
    function: tirx.PrimFunc, per_kind: int, target: tvm.target.Target
) -> Iterator[tuple[str, tirx.PrimFunc]]:
    plain = [("as it is", function)]
    counts: dict[str, int] = {}
    for variant in variants(function):
        counts[variant.kind] = counts.get(variant.kind, 0) + 1
        if variant.kind != "GPU schedule" and counts[variant.kind] <= per_kind:
            plain.append((variant.where, variant.function))
    seen: list[Any] = []
    for where, kernel in plain:
        for name, rule in _RULES.items():
            made = applied(rule, kernel, target)
            if made is None or "tirx.is_scheduled" not in (made.attrs or {}):
                continue
            if any(tvm_ffi.structural_equal(made, other) for other in seen):
                continue
            seen.append(made)
            yield f"{where}, {name}", made


def _tried(
    suite: Suite,
    wider: Suite,
    unit: str,
    made: Sequence[tuple[str, tirx.PrimFunc]],
    target: tvm.target.Target,
) -> Iterator[Tried]:
    names = [f"kernel_{number}" for number in range(len(made))]
    module = tvm.IRModule(
        {name: f.with_attr("global_symbol", name) for name, (_, f) in zip(names, made, strict=True)}
    )
    try:
        built = tvm.tirx.build(module, target=target)
    except Exception as error:  # Whatever TVM and nvcc raise for one of them.
        if len(made) == 1:
            yield Tried(unit=unit, how=made[0][0], unbuilt=last_line(error))
            return
        for one in made:
            yield from _tried(suite, wider, unit, [one], target)
        return
    fine_cases, wider_cases = kernel_cases(suite, unit).cases, kernel_cases(wider, unit).cases
    for name, (how, _) in zip(names, made, strict=True):
        reason, is_low = "", False
        for fine, wide in zip(fine_cases, wider_cases, strict=True):
            outputs = _run(built[name], fine)
            reason = _reason(fine, outputs)
            if reason and not _reason(wide, outputs):
                reason, is_low = "", True
            if reason:
                break
        yield Tried(unit=unit, how=how, reason=reason, low_precision=is_low)


def _run(kernel: Any, case: KernelCase) -> list[Array]:
    device = tvm.cuda(0)
    inputs = [tvm.runtime.tensor(array, device) for array in case.inputs]
    outputs = [
        tvm.runtime.tensor(untouched(array.shape, array.dtype), device) for array in case.oracles
    ]
    kernel(*inputs, *outputs, *case.scalars)
    device.sync()
    return [output.numpy() for output in outputs]


def _reason(case: KernelCase, outputs: Sequence[Array]) -> str:
    for oracle, actual, tolerance in zip(case.oracles, outputs, case.tolerances, strict=True):
        found = compare(oracle, actual, tolerance)
        if found.verdict is Verdict.MISMATCH:
            return f"{case.name}: {found.reason}"
    return ""
