"""Carve a unit: read the tensors of its cases, derive tolerances, add probes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import tvm
import tvm_ffi
from tvm import relax

from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve._stored_tensors import StoredTensors, placed_tensors, weight_name
from relax_tapml.carve.probe.even_probe import even_probe
from relax_tapml.carve.probe.unit_probes import Probe, Probes, probes
from relax_tapml.carve.select.choose_cases import Case
from relax_tapml.carve.shape.shape_cases import ShapeCases
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.carved_unit import CarvedCase, CarvedUnit
from relax_tapml.carve.unit.choose_copies import exact_copies, with_copies
from relax_tapml.carve.unit.constant_inputs import constant_inputs, constant_places
from relax_tapml.carve.unit.copied_axes import CopiedAxes
from relax_tapml.carve.unit.evaluations import Evaluations
from relax_tapml.carve.unit.exchange_kernel import with_exchange_kernels
from relax_tapml.carve.unit.part_weights import case_tensors
from relax_tapml.carve.unit.read_rows import read_rows, tables
from relax_tapml.carve.unit.unit_module import case_function, unit_module
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.derive.error_bounds import has_excess
from relax_tapml.errors import NotCarvableError
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.passes.site import Site
from relax_tapml.suite.manifest import SuiteDim
from relax_tapml.suite.pytest_file import identifier
from relax_tapml.suite.suite_files import HeldPart

_RESIZED_VALUES = 1 << 20


def carve_unit(
    cases: Sequence[Case],
    *,
    lowered: tvm.IRModule,
    calls: Mapping[str, tuple[Site, relax.Call]],
    store: CaptureStore,
    is_probed: bool,
    evaluations: Evaluations | None = None,
) -> CarvedUnit:
    """Read the tensors of a unit's cases, derive tolerances, and add probes.

    Parameters
    ----------
    cases
        Of one unit, from ``choose_cases``.
    lowered
        The annotated module that the calls were recorded from.
    calls
        Its operator calls, by the id of the site.
    store
        Where the tensors are.
    is_probed
        Whether to add probes.
    evaluations
        Which evaluations of the unit are left out; by default none.
    """
    tensors = StoredTensors(store)
    lowered = with_exchange_kernels(lowered)
    functions: dict[str, relax.Function] = {}
    uncarved: dict[str, str] = {}
    found: list[tuple[Case, relax.Call, str]] = []
    for case in cases:
        call = calls[case.record.site][1]
        try:
            function = case_function(lowered, call, case.record, tensors.weight_type)
            tensors.check(case.record)
        except NotCarvableError as error:
            uncarved[case.record.site] = str(error)
            continue
        found.append((case, call, _named(functions, function)))
    shapes = ShapeCases.plan(
        _resizable([case for case, _, _ in found], tensors) if is_probed else None,
        lowered=lowered,
        calls=[item for item in calls.values() if cases and item[0].unit == cases[0].unit],
        store=store,
        weight_type=tensors.weight_type,
        add=lambda function: _named(functions, function),
    )
    module = unit_module(lowered, functions)
    unit = UnitTolerances(module, evaluations)
    recordings = [
        CallTensors(
            function=function,
            inputs=tuple(tensors.array(value) for _, value in placed_tensors(case.record.inputs)),
            outputs=tuple(
                tensors.array(value) for _, value in placed_tensors(case.record.outputs or ())
            ),
            weights=tuple(weight_name(value) for _, value in placed_tensors(case.record.inputs)),
        )
        for case, _, function in found
    ]
    carved = []
    parts: dict[int, HeldPart] = {}
    read = tables(unit, recordings)
    copied = with_copies(module, recordings)
    tensors_of = case_tensors(unit, _without(read, copied))
    if any(
        call.copies.axes and any(map(has_excess, made_of.tolerances))
        for call, made_of in zip(copied, tensors_of, strict=True)
    ):
        # The source's results at held places say nothing of those at others.
        copied = recordings
        tensors_of = case_tensors(unit, _without(read, copied))
    for number, ((case, call, function), recording, copies, made_of) in enumerate(
        zip(found, recordings, (one.copies for one in copied), tensors_of, strict=True)
    ):
        site = calls[case.record.site][0]
        operator = operator_call(call, lowered)
        recorded = placed_tensors(case.record.inputs)
        for place, part in made_of.input_parts.items():
            parts[id(made_of.inputs[place])] = part
        for place, part in made_of.output_parts.items():
            parts[id(made_of.outputs[place])] = part
        carved.append(
            CarvedCase(
                name=f"{identifier(site.function)}-{site.ordinal:03d}-case{number}",
                record=case.record,
                function=function,
                may_write=operator is not None and operator.may_write,
                inputs=made_of.inputs,
                outputs=made_of.outputs,
                weights=recording.weights,
                fixed=frozenset(n for n, (at, _) in enumerate(recorded) if at in case.fixed),
                tolerances=made_of.tolerances,
                reason="; ".join(filter(None, (case.reason, made_of.reason, copies.reason))),
                copies=copies,
            )
        )
    inexact, missing = "", {}
    if is_probed and carved:
        base, whole = min(zip(carved, recordings, strict=True), key=lambda pair: _size(pair[1]))
        made = _probes(unit, module, base, whole, constant_places(carved))
        carved += [_probe_case(base, probe) for probe in made.found]
        inexact, missing = made.inexact, dict(made.missing)
        carved += _even_probes(unit, carved, recordings)
        carved += _shape_probes(unit, module, shapes, carved)
    for name, rows in read_rows(unit, carved, parts).items():
        for item in carved:
            for array, weight in zip(item.inputs, item.weights, strict=True):
                if weight == name:
                    parts[id(array)] = HeldPart(places=rows)
    crashed = {} if evaluations is None else evaluations.refused
    missing.update({f"float64-evaluation-{number}": why for number, why in crashed.items()})
    return CarvedUnit(
        module=module,
        cases=tuple(carved),
        parts=parts,
        uncarved=uncarved,
        constant_inputs=constant_inputs(module, carved),
        inexact=inexact,
        dims_seen_once=tuple(_seen_once(shapes, carved)),
        missing_probes=missing,
    )


def _without(names: frozenset[str], calls: Sequence[CallTensors]) -> list[CallTensors]:
    """Return calls in which some weights have no name, so that they stay as they are."""
    return [
        replace(call, weights=tuple(None if name in names else name for name in call.weights))
        for call in calls
    ]


def _seen_once(shapes: ShapeCases, cases: Sequence[CarvedCase]) -> Iterator[SuiteDim]:
    for dim in shapes.dims:
        if len(dim.values) == 1:
            [value] = dim.values
            probed = {case.sizes[dim.name] for case in cases if dim.name in case.sizes} - {value}
            yield SuiteDim(
                name=dim.name,
                value=value,
                probed=tuple(sorted(probed)),
                reason="; ".join(shapes.reasons),
            )


def _probes(
    unit: UnitTolerances,
    module: tvm.IRModule,
    base: CarvedCase,
    recording: CallTensors,
    constant: frozenset[int],
) -> Probes:
    """Make probes of a case; ``recording`` has its tensors as they were recorded."""
    copies = exact_copies(module, recording)
    inputs = copies.held_inputs(
        [
            whole if place in base.copies.inputs else own
            for place, (own, whole) in enumerate(zip(base.inputs, recording.inputs, strict=True))
        ]
    )
    exact = replace(
        recording, inputs=inputs, outputs=copies.held_outputs(recording.outputs), copies=copies
    )
    return probes(
        unit, base.tensors, exact=exact, fixed=base.fixed, constant=constant, base=base.name
    )


def _even_probes(
    unit: UnitTolerances, carved: Sequence[CarvedCase], recordings: Sequence[CallTensors]
) -> Iterator[CarvedCase]:
    """Yield a probe of each recorded case in which all tokens count; none but of attention."""
    cases = [case for case in carved if not case.is_probe]
    for number, (case, recording) in enumerate(zip(cases, recordings, strict=True)):
        probe = even_probe(unit, recording, case.name)
        if probe is not None:
            yield _probe_case(case, replace(probe, name=f"{probe.name}{number}"))


def _probe_case(base: CarvedCase, probe: Probe) -> CarvedCase:
    return replace(
        base,
        name=f"{base.name.rpartition('-')[0]}-{probe.name}",
        inputs=probe.inputs,
        outputs=probe.outputs,
        # What a probe has made is no longer the weight.
        weights=tuple(
            name if made is recorded else None
            for name, made, recorded in zip(base.weights, probe.inputs, base.inputs, strict=True)
        ),
        tolerances=probe.tolerances,
        reason="; ".join(filter(None, (probe.reason, probe.copies.reason))),
        is_probe=True,
        recipes=probe.recipes,
        copies=probe.copies,
    )


def _resizable(cases: Sequence[Case], tensors: StoredTensors) -> Case | None:
    """Return the case to make probes with other shapes from, None where there is none.

    The largest that is not very large has most values to draw from.
    """
    sized = [(_elements(case, tensors), case) for case in cases]
    small = [item for item in sized if item[0] <= _RESIZED_VALUES]
    if small:
        return max(small, key=lambda item: item[0])[1]
    return min(sized, key=lambda item: item[0], default=(0, None))[1]


def _elements(case: Case, tensors: StoredTensors) -> int:
    values = placed_tensors((*case.record.inputs, *(case.record.outputs or ())))
    return sum(tensors.array(value).size for _, value in values)


def _shape_probes(
    unit: UnitTolerances,
    module: tvm.IRModule,
    shapes: ShapeCases,
    carved: Sequence[CarvedCase],
) -> Iterator[CarvedCase]:
    base = next((case for case in carved if case.record == shapes.record), None)
    if base is None:
        return
    # Cut to other shapes, so of whole tensors; a weight with copies is no longer that weight.
    inputs = base.copies.whole_inputs(base.inputs)
    outputs = base.copies.whole_outputs(base.outputs)
    for probe, function in shapes.probes(unit, module, base.function, inputs, outputs):
        sizes = shapes.named(probe)
        listed = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        label = "x".join(str(size) for size in sizes.values())
        yield replace(
            base,
            name=f"{base.name.rpartition('-')[0]}-shape{label}",
            function=function,
            inputs=probe.inputs,
            outputs=probe.outputs,
            tolerances=probe.tolerances,
            reason=f"probe: values of {base.name} in other shapes, {listed}",
            is_probe=True,
            copies=CopiedAxes(),
            sizes=sizes,
        )


def _size(call: CallTensors) -> int:
    return sum(math.prod(array.shape) for array in (*call.inputs, *call.outputs))


def _named(functions: dict[str, relax.Function], function: relax.Function) -> str:
    """Return the name of a function among ``functions``, adding it unless its equal is there."""
    for name, known in functions.items():
        if tvm_ffi.structural_equal(known, function):
            return name
    name = "main" if not functions else f"main_{len(functions)}"
    functions[name] = function
    return name
