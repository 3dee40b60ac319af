"""Which cases of a suite take long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from tvm import tirx

from relax_tapml._compat import SBlockRealize
from relax_tapml.arrays import dtype_named
from relax_tapml.kernel_flow.interval import Interval, bounds
from relax_tapml.kernel_flow.kernel_call import UnitCall, unit_call
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
    call = unit_call(module, case.function)
    if call is None:
        return 0
    return iterations(
        call,
        [tensors[item.tensor].shape for item in case.inputs],
        [tensors[item.tensor].shape for item in case.outputs],
    )


def iterations(
    call: UnitCall, inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]
) -> float:
    """Return how often the innermost loops of a call run, by the shapes of its tensors."""
    shapes = {number: inputs[index] for number, index in call.inputs.items()}
    shapes.update(zip(call.results, outputs, strict=False))
    return _inside(call.kernel.body, call.fixed(shapes))


def _inside(statement: Any, sizes: Mapping[tirx.Var, Interval]) -> float:
    """Return how many times the statements inside a statement run."""
    match statement:
        case tirx.For():
            extent = bounds(statement.extent, sizes, lambda _load, _environment: None)
            # An extent that depends on an outer loop is at least one.
            count = 1 if extent is None else max(extent.high, 0)
            return count * max(1.0, _inside(statement.body, sizes))
        case tirx.SeqStmt():
            return math.fsum(_inside(part, sizes) for part in statement.seq)
        case SBlockRealize():
            return _inside(statement.block.body, sizes)
        case tirx.IfThenElse():
            cases = [statement.then_case, statement.else_case]
            return math.fsum(_inside(part, sizes) for part in cases if part is not None)
        case tirx.AttrStmt() | tirx.While():
            return _inside(statement.body, sizes)
    return 1.0
