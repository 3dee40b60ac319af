"""Calls of a suite's unit at the boundaries of its symbolic dimensions, chosen by the kernel alone.

``ShapeCases`` asks the model which extents it allows. A suite need not have its model, so here the
kernel's own parameters say what a call may be: an extent that is a variable in these may have any
value for which the kernel provably stays inside its tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.capture.values import CallRecord, TensorValue, Value
from relax_tapml.carve.shape._shape_plans import ShapePlan
from relax_tapml.carve.shape._shape_probes import ShapeProbe, ShapeProber
from relax_tapml.carve.shape._symbolic_call import extents_of
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.unit_module import case_function, unit_module
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.errors import NotCarvableError
from relax_tapml.kernel_flow.kernel_call import KernelCall, dims_of, kernel_call_of
from relax_tapml.kernel_flow.stores import NotAnalyzableError

_ODD_SIZES = (3, 5, 7, 11, 13, 17, 31, 33, 63, 65)
_CONSTANT = "a function of a case has a constant of fixed shape"


@dataclass(frozen=True, kw_only=True)
class BoundaryCalls:
    """Calls with other extents.

    Parameters
    ----------
    module
        The unit's module with the functions that do these calls.
    probes
        Each with the name of its function.
    reasons
        Why others could not be made, each once.
    """

    module: tvm.IRModule
    probes: tuple[tuple[str, ShapeProbe], ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Found:
    """What has been made so far."""

    plans: dict[str, ShapePlan] = field(default_factory=dict)
    functions: dict[str, relax.Function] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)


def boundary_calls(
    module: tvm.IRModule, base: CallTensors, seen: Sequence[CallTensors], seed: int
) -> BoundaryCalls:
    """Make calls with extents of 1, of one more than was recorded, and odd ones.

    Parameters
    ----------
    module
        Of the unit, as ``unit_module`` makes it.
    base
        The call whose values are drawn from.
    seen
        All calls whose extents are known, of which none is made again.
    seed
        Of what is drawn.

    Returns
    -------
    BoundaryCalls
        Without probes and reasons for a unit that has no symbolic dimension.
    """
    call = kernel_call_of(module, base.function)
    if call is None or call.is_runtime_callback:
        return BoundaryCalls(module=module)
    recorded = _sizes(call, base)
    params = set(call.kernel.params)
    free = [variable for variable in recorded if variable not in params]
    if not free:
        return BoundaryCalls(module=module)
    if call.constants or not call.inputs.keys().isdisjoint(call.results):
        reason = _CONSTANT if call.constants else "it writes to its arguments"
        return BoundaryCalls(module=module, reasons=(reason,))
    found = _Found()
    known = [_sizes(one, tensors) for one, tensors in _calls(module, seen)]
    for sizes in _combinations(free, known, seed):
        try:
            plan = _plan(base, call, {**recorded, **sizes})
            name = f"boundary_{len(found.plans)}"
            caller = module[base.function].body.blocks[0].bindings[0].value
            found.functions[name] = case_function(module, caller, plan.record, _no_weight)
        except (NotAnalyzableError, NotCarvableError) as error:
            found.reasons[str(error)] = None
        else:
            found.plans[name] = plan
    return _probed(module, base, found, seed)


def _probed(module: tvm.IRModule, base: CallTensors, found: _Found, seed: int) -> BoundaryCalls:
    callers = {
        gvar.name_hint: function
        for gvar, function in module.functions.items()
        if isinstance(function, relax.Function)
    }
    grown = unit_module(_without(module, callers), {**callers, **found.functions})
    probes = []
    try:
        prober = ShapeProber(UnitTolerances(grown), grown, base.function, base.inputs, base.outputs)
    except NotAnalyzableError as error:
        return BoundaryCalls(module=module, reasons=(*found.reasons, str(error)))
    for number, (name, plan) in enumerate(found.plans.items()):
        try:
            probes.append((name, prober.probe(plan, name, seed + number)))
        except NotAnalyzableError as error:
            found.reasons[str(error)] = None
    return BoundaryCalls(module=grown, probes=tuple(probes), reasons=tuple(found.reasons))


def _without(module: tvm.IRModule, names: Mapping[str, relax.Function]) -> tvm.IRModule:
    kept: dict[GlobalVar, tvm.ir.BaseFunc] = {
        gvar: function for gvar, function in module.functions.items() if gvar.name_hint not in names
    }
    return tvm.IRModule(kept, attrs=module.attrs, global_infos=module.global_infos)


def _calls(
    module: tvm.IRModule, seen: Sequence[CallTensors]
) -> Iterator[tuple[KernelCall, CallTensors]]:
    for tensors in seen:
        call = kernel_call_of(module, tensors.function)
        if call is not None:
            yield call, tensors


def _sizes(call: KernelCall, tensors: CallTensors) -> dict[tirx.Var, int]:
    shapes = {number: tensors.inputs[place].shape for number, place in call.inputs.items()}
    results = zip(call.results, tensors.outputs, strict=True)
    return dims_of(call.kernel, {**shapes, **{n: a.shape for n, a in results}}, call.scalars)


def _combinations(
    free: Sequence[tirx.Var], known: Sequence[Mapping[tirx.Var, int]], seed: int
) -> Iterator[dict[tirx.Var, int]]:
    """Yield extents for all variables together: each at a boundary, then each at odd ones."""
    generator = np.random.default_rng([seed, 7])
    most = {v: max(sizes[v] for sizes in known if v in sizes) for v in free}
    odd = generator.permutation(_ODD_SIZES)
    choices = [
        dict.fromkeys(free, 1),
        {variable: most[variable] + 1 for variable in free},
        *({v: int(odd[(n + turn) % len(odd)]) for turn, v in enumerate(free)} for n in range(2)),
    ]
    if len(free) > 1:
        choices += [{variable: 1} for variable in free]
    made: set[tuple[tuple[str, int], ...]] = {_key(free, sizes) for sizes in known}
    for sizes in choices:
        key = _key(free, {**most, **sizes})
        if key not in made:
            made.add(key)
            yield sizes


def _key(free: Sequence[tirx.Var], sizes: Mapping[tirx.Var, int]) -> tuple[tuple[str, int], ...]:
    return tuple((variable.name, sizes.get(variable, 0)) for variable in free)


def _plan(base: CallTensors, call: KernelCall, sizes: Mapping[tirx.Var, int]) -> ShapePlan:
    """Return the call that a case function is made of, with the shapes that follow from sizes."""
    params = list(call.kernel.params)
    arrays = {number: base.inputs[place] for number, place in call.inputs.items()}
    arrays |= dict(zip(call.results, base.outputs, strict=True))
    tensors = {
        number: TensorValue(
            digest="",
            dtype=array.dtype.name,
            shape=extents_of(list(params[number].ty.shape), sizes),
        )
        for number, array in arrays.items()
    }
    first = min(call.results)
    inputs: list[Value] = [
        tensors[number] if number in call.inputs else call.scalars[number]
        for number in range(first)
    ]
    passed = tuple(int(value) for number, value in call.scalars.items() if number > first)
    record = CallRecord(
        sample="",
        frame=0,
        function="",
        call=0,
        site="",
        inputs=(*inputs, passed) if passed else tuple(inputs),
        outputs=tuple(tensors[number] for number in call.results),
    )
    return ShapePlan(sizes=sizes, record=record)


def _no_weight(name: str) -> relax.TensorType:
    raise NotCarvableError(f"{name}: {_CONSTANT}")
