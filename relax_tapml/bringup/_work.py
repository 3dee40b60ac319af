"""How much there is to do, counted before anything is run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import tvm
from tvm import relax, tirx

from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.carve.select.call_work import called_kernel
from relax_tapml.frontend.model import Model
from relax_tapml.kernel_flow.loop_counts import Loops
from relax_tapml.partition.derived_weights import lifted_sites
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights
from relax_tapml.passes.operator_call import leaf_types, operator_call

# Of a dimension that no input of a sample has a guess for.
_UNKNOWN_EXTENT = 64
# A loop nest that makes so many iterations for each value reads it many times.
_MANY = 16


class LoopKind(Enum):
    """What a kernel spends its time with.

    A product reads each value many times; a sum reads many values for each that it returns, as a
    product with a vector does; anything else computes each value by itself.
    """

    PRODUCT = "product"
    SUM = "sum"
    EACH = "each"


@dataclass(frozen=True, kw_only=True)
class UnitLoad:
    """What one unit does.

    Parameters
    ----------
    iterations
        Of its loops, in one call. Symbolic dimensions count as the longest of a sample's inputs;
        what cannot be counted, as the elements that it returns.
    kind
        Of these loops.
    values, taken
        How many values one call returns, and takes.
    dtype
        Of the first tensor that it takes.
    calls
        How often it is called in one run of a sample.
    derivations
        How often it is called in all runs together, to derive weights.
    """

    iterations: int
    kind: LoopKind
    values: int
    taken: int
    dtype: str
    calls: int
    derivations: int = 0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run of the tool has to do.

    Parameters
    ----------
    units
        By name.
    activation_bytes
        What the sites return in one run of a sample.
    weights_bytes
        Of all parameters.
    derived_bytes
        Of the weights that are derived from them.
    samples
        How many samples are run.
    has_framework
        Whether a framework runs the samples, too.
    """

    units: Mapping[str, UnitLoad]
    activation_bytes: int
    weights_bytes: int
    derived_bytes: int
    samples: int
    has_framework: bool

    @property
    def heaviest_dtype(self) -> str:
        """Of the unit that has most iterations in a run; ``float32`` where there is none."""
        heaviest = max(self.units.values(), key=lambda u: u.iterations * u.calls, default=None)
        return "float32" if heaviest is None else heaviest.dtype


def work_of(model: Model, lowered: Lowered) -> Work:
    """Count the work of bringing up a model."""
    guess = max(
        (extent for sample in model.samples for array in sample.arrays for extent in array.shape),
        default=_UNKNOWN_EXTENT,
    )
    iterations = iterations_of(lowered, guess)
    lifted = lifted_sites(LiftDerivedWeights()(lowered.module))
    sites = list(annotated_calls(lowered.module))
    derivations = Counter(site.unit for site, _ in sites if site.id in lifted)
    units: dict[str, UnitLoad] = {}
    activation_bytes = derived_bytes = 0
    for site, call in sites:
        returned = _sizes(leaf_types(call.ty), guess)
        size_bytes = sum(count * item for count, item in returned)
        if site.id in lifted:
            derived_bytes += size_bytes
        else:
            activation_bytes += size_bytes
        if site.unit not in units:
            given = [ty for arg in call.args for ty in leaf_types(arg.ty)]
            values = sum(count for count, _ in returned)
            taken = sum(count for count, _ in _sizes(given, guess))
            units[site.unit] = UnitLoad(
                iterations=iterations[site.unit],
                kind=_kind(iterations[site.unit], values, taken),
                values=values,
                taken=taken,
                dtype=next((str(ty.dtype) for ty in _tensors(given)), ""),
                calls=lowered.units[site.unit] - derivations[site.unit],
                derivations=derivations[site.unit],
            )
    return Work(
        units=units,
        activation_bytes=activation_bytes,
        weights_bytes=sum(array.nbytes for array in model.params.values()),
        derived_bytes=derived_bytes,
        samples=len(model.samples),
        has_framework=model.reference is not None,
    )


def iterations_of(lowered: Lowered, guess: int = _UNKNOWN_EXTENT) -> dict[str, int]:
    """Return the loop iterations of one call of each unit; ``guess`` is a symbolic dimension."""
    found: dict[str, int] = {}
    for site, call in annotated_calls(lowered.module):
        if site.unit not in found:
            counted = _iterations(lowered.module, call, guess)
            returned = _sizes(leaf_types(call.ty), guess)
            found[site.unit] = counted or sum(count for count, _ in returned)
    return found


def _kind(iterations: int, values: int, taken: int) -> LoopKind:
    if iterations <= _MANY * values:
        return LoopKind.EACH
    return LoopKind.PRODUCT if iterations > _MANY * (values + taken) else LoopKind.SUM


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


def _tensors(types: Sequence[tvm.ir.Type]) -> list[relax.TensorType]:
    return [ty for ty in types if isinstance(ty, relax.TensorType)]


def _sizes(types: Sequence[tvm.ir.Type], guess: int) -> list[tuple[int, int]]:
    """Return the elements of each tensor among some types, and the bytes of one."""
    return [_size(ty, guess) for ty in _tensors(types)]


def _size(ty: relax.TensorType, guess: int) -> tuple[int, int]:
    if not isinstance(ty.shape, relax.ShapeExpr):  # Not stated, or computed at run time.
        return guess, 4
    extents = [int(e) if isinstance(e, tirx.IntImm) else guess for e in ty.shape.values]
    return math.prod(extents), max(tvm.DataType(ty.dtype).itemsize, 1)
