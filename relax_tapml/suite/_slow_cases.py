"""Which cases of a suite take long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import tvm

from relax_tapml.arrays import dtype_named
from relax_tapml.kernel_flow.iterations import iterations
from relax_tapml.kernel_flow.kernel_call import kernel_call_of
from relax_tapml.suite.manifest import SuiteCase, SuiteTensor

# What an unscheduled kernel on one core takes about a second for.
_ITERATIONS = 1e9
# Uploading, downloading and comparing as many bytes takes about a second.
_BYTES = 1e8


def slow_cases(
    module: tvm.IRModule, cases: Sequence[SuiteCase], tensors: Mapping[str, SuiteTensor]
) -> frozenset[str]:
    """Return the names of the cases that take about a second or more.

    It is an estimate, the same on every machine: iterations of the innermost loops of the unit's
    PrimFunc, at a nanosecond each, plus bytes of inputs and outputs, at ten nanoseconds each. A
    unit that is no PrimFunc is judged by its bytes alone.

    Parameters
    ----------
    module
        The unit's module.
    cases
        Of that unit.
    tensors
        Those of the suite, by digest.
    """
    return frozenset(
        case.name
        for case in cases
        if _iterations(module, case, tensors) / _ITERATIONS + _bytes(case, tensors) / _BYTES >= 1
    )


def _bytes(case: SuiteCase, tensors: Mapping[str, SuiteTensor]) -> int:
    digests = [item.tensor for item in case.inputs] + [item.tensor for item in case.outputs]
    used = [tensors[digest] for digest in digests]
    return sum(math.prod(tensor.shape) * dtype_named(tensor.dtype).itemsize for tensor in used)


def _iterations(module: tvm.IRModule, case: SuiteCase, tensors: Mapping[str, SuiteTensor]) -> float:
    call = kernel_call_of(module, case.function)
    if call is None:
        return 0
    return iterations(
        call,
        [tensors[item.tensor].shape for item in case.inputs],
        [tensors[item.tensor].shape for item in case.outputs],
    )
