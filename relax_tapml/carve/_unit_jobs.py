"""Which units are carved in one process, and what memory that takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import tvm
from tvm import relax

from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import ParameterValue, TensorValue
from relax_tapml.carve.select.choose_cases import Case
from relax_tapml.cores import threads_at_most
from relax_tapml.passes.operator_call import leaf_types, operator_functions
from relax_tapml.passes.weights import weight_params
from relax_tapml.processes.within_memory import Job

_LARGE_BYTES = 64 << 20
# Of the tensors of a case, for their copies, float64 blocks, bounds and probes.
_TIMES = 4
_BASE_BYTES = 2 << 30
# A thread that evaluates products keeps so much, where these are not small.
_THREAD_BYTES, _SMALL_BYTES = 26 << 20, 1 << 20


def need_bytes(cases: Sequence[Case], store: CaptureStore) -> int:
    """Return about how much memory it takes to carve the cases of a unit."""
    weights: dict[str, int] = {}

    def size(value: object) -> int:
        if isinstance(value, ParameterValue):
            if value.name not in weights:
                weights[value.name] = store.parameter(value.name).nbytes
            return weights[value.name]
        if isinstance(value, TensorValue):
            return math.prod(value.shape) * _item_bytes(value.dtype)
        return 0

    records = (case.record for case in cases)
    sizes = (sum(map(size, (*record.inputs, *(record.outputs or ())))) for record in records)
    return _TIMES * max(sizes, default=0)


def memory_limit(lowered: tvm.IRModule) -> int:
    """Return what all units that are carved at once may need.

    While a suite is carved, the target's side does not hold its weights yet.
    """
    return _BASE_BYTES + sum(
        math.prod(map(int, ty.shape.values)) * _item_bytes(ty.dtype)
        for _, function in operator_functions(lowered)
        for param in weight_params(function)
        for ty in leaf_types(param.ty)
        if isinstance(ty, relax.TensorType)
        and isinstance(ty.shape, relax.ShapeExpr)
        and all(isinstance(extent, tvm.tirx.IntImm) for extent in ty.shape.values)
    )


def unit_jobs(needs: Mapping[str, int], most: int) -> list[Job[list[str]]]:
    """Return the units that are carved one after another in a process, the largest first.

    Parameters
    ----------
    needs
        Bytes of memory, by unit.
    most
        How many lists the units are dealt to that are not large; each large one has its own.
    """
    large = sorted((u for u in needs if needs[u] > _LARGE_BYTES), key=lambda u: -needs[u])
    small = [unit for unit in needs if needs[unit] <= _LARGE_BYTES]
    lists = [*([unit] for unit in large), *(small[start::most] for start in range(most))]
    return [
        Job(work=units, need_bytes=_with_threads(max(needs[u] for u in units)))
        for units in lists
        if units
    ]


def _with_threads(need: int) -> int:
    return need + (_THREAD_BYTES * threads_at_most() if need > _SMALL_BYTES else 0)


def _item_bytes(dtype: str) -> int:
    return max(int(tvm.DataType(dtype).itemsize), 1)
