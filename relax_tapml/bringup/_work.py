"""How much there is to do, counted before anything is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import relax, tirx

from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.carve.select.call_work import called_kernel
from relax_tapml.frontend.model import Model
from relax_tapml.kernel_flow.loop_counts import Loops
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import leaf_types, operator_call

# Of a dimension that no input of a sample has a guess for.
_UNKNOWN_EXTENT = 64


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run of the tool has to do.

    Parameters
    ----------
    iterations
        Of each unit, by name, the loop iterations of one call. Symbolic dimensions count as the
        longest of a sample's inputs; what cannot be counted, as the elements that it returns.
    calls
        How many sites each unit has.
    activation_bytes
        What the sites return in one run of a sample.
    weights_bytes
        Of all parameters.
    samples
        How many samples are run.
    """

    iterations: Mapping[str, int]
    calls: Mapping[str, int]
    activation_bytes: int
    weights_bytes: int
    samples: int

    @property
    def of_each_unit(self) -> int:
        """Iterations of one call of every unit."""
        return sum(self.iterations.values())

    @property
    def of_a_run(self) -> int:
        """Iterations of one call of every site."""
        return sum(self.iterations[unit] * count for unit, count in self.calls.items())


def work_of(model: Model, lowered: Lowered) -> Work:
    """Count the work of bringing up a model."""
    guess = max(
        (extent for sample in model.samples for array in sample.arrays for extent in array.shape),
        default=_UNKNOWN_EXTENT,
    )
    returned = (_sizes(call, guess) for _, call in annotated_calls(lowered.module))
    return Work(
        iterations=iterations_of(lowered, guess),
        calls=lowered.units,
        activation_bytes=sum(size * item for sizes in returned for size, item in sizes),
        weights_bytes=sum(array.nbytes for array in model.params.values()),
        samples=len(model.samples),
    )


def iterations_of(lowered: Lowered, guess: int = _UNKNOWN_EXTENT) -> dict[str, int]:
    """Return the loop iterations of one call of each unit; ``guess`` is a symbolic dimension."""
    found: dict[str, int] = {}
    for site, call in annotated_calls(lowered.module):
        if site.unit not in found:
            counted = _iterations(lowered.module, call, guess)
            found[site.unit] = counted or sum(size for size, _ in _sizes(call, guess))
    return found


def _sizes(call: relax.Call, guess: int) -> list[tuple[int, int]]:
    """Return the elements of each tensor that a call returns, and the bytes of one."""
    return [_size(ty, guess) for ty in leaf_types(call.ty) if isinstance(ty, relax.TensorType)]


def _iterations(module: tvm.IRModule, call: relax.Call, guess: int) -> int | None:
    operator = operator_call(call, module)
    gvar = None if operator is None else called_kernel(module, call, operator)
    if gvar is None:
        return None
    function = module[gvar]
    try:
        found = Loops(function).counts({}, _guessed(function.params, guess))
    except Exception:  # A guess must not end a run, whatever a kernel is made of.
        return None
    return None if found is None else found.iterations


def _guessed(params: Sequence[tirx.Var], guess: int) -> dict[tirx.Var, int]:
    fixed = {
        extent: guess
        for param in params
        for extent in getattr(param.ty, "shape", ())
        if isinstance(extent, tirx.Var)
    }
    return fixed | {param: guess for param in params if not hasattr(param.ty, "shape")}


def _size(ty: relax.TensorType, guess: int) -> tuple[int, int]:
    if not isinstance(ty.shape, relax.ShapeExpr):  # Not stated, or computed at run time.
        return guess, 4
    extents = [int(e) if isinstance(e, tirx.IntImm) else guess for e in ty.shape.values]
    return math.prod(extents), max(tvm.DataType(ty.dtype).itemsize, 1)
