"""Small kernels of many kinds, run with their schedule and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import relax, tirx

from relax_tapml.cpu_schedule.native_cpu import native_cpu_target
from relax_tapml.cpu_schedule.schedule_for_cpu import schedule_for_cpu

CPU = native_cpu_target()
ENTRY = "kernel"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A parameter: its shape, ``None`` for the symbolic dimension, and its dtype."""

    shape: Sequence[int | None]
    dtype: str


def relax_kernels(tensors: Sequence[Tensor], operators: Callable[..., Any]) -> list[tirx.PrimFunc]:
    """Return the kernels that Relax's passes make of operators.

    Parameters
    ----------
    operators
        Takes a block builder's ``emit`` and a variable for each tensor; returns an expression.
    """
    builder, rows = relax.BlockBuilder(), tirx.Var("rows", "int64")
    types = [
        relax.TensorType([rows if dim is None else dim for dim in one.shape], one.dtype)
        for one in tensors
    ]
    inputs = [relax.Var(f"x{number}", ty) for number, ty in enumerate(types)]
    with builder.function("main", inputs):
        with builder.dataflow():
            out = builder.emit_output(builder.normalize(operators(builder, *inputs)))
        builder.emit_func_output(out)
    module = relax.get_pipeline("zero")(builder.get())
    return [f for f in module.functions.values() if isinstance(f, tirx.PrimFunc)]


def arguments(
    function: tirx.PrimFunc, rows: int, rng: np.random.Generator, values: str
) -> list[np.ndarray]:
    """Return arrays for the parameters of a kernel.

    Parameters
    ----------
    rows
        The symbolic dimension.
    values
        ``whole`` numbers, ``real`` ones, or ``special``: with a NaN and infinities.
    """
    arrays = []
    for param in function.params:
        buffer = function.buffer_map[param] if hasattr(function, "buffer_map") else param
        shape = [int(dim) if isinstance(dim, tirx.IntImm) else rows for dim in buffer.shape]
        arrays.append(_array(shape, str(buffer.dtype), rng, values))
    return arrays


def _array(shape: list[int], dtype: str, rng: np.random.Generator, values: str) -> np.ndarray:
    if dtype == "uint32":
        return rng.integers(0, 2**32, shape, dtype=dtype)
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    if kind.kind in "iu":
        return rng.integers(0, 8, shape).astype(kind)
    whole = values == "whole"
    array = (rng.integers(-3, 4, shape) if whole else rng.standard_normal(shape)).astype(kind)
    if values == "special" and array.size:
        array.reshape(-1)[rng.integers(0, array.size, 3)] = [np.nan, np.inf, -np.inf]
    return array


def run(function: tirx.PrimFunc, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return all parameters after a run with copies of arrays."""
    named = function.with_attr("global_symbol", ENTRY)
    library = tvm.tirx.build(tvm.IRModule({ENTRY: named}), target=CPU)
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    library[ENTRY](*tensors)
    return [tensor.numpy() for tensor in tensors]


def scheduled(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel with its schedule, however small it is."""
    return schedule_for_cpu(function, CPU, least_iterations=0)


def differences(expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]) -> int:
    """Return how many values differ; a NaN is equal to every NaN."""
    count = 0
    for one, other in zip(expected, actual, strict=True):
        is_nan = one != one
        count += int(((one != other) & ~(is_nan & (other != other))).sum())
    return count
