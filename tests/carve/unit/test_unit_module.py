from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.capture.values import CallRecord, OpaqueValue, ParameterValue, TensorValue
from relax_tapml.carve.unit.unit_module import NotCarvableError, case_function, unit_module
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls

KINDS = {
    "call_tir": "increment",
    "call_tir with a scalar and two outputs": "add_and_subtract",
    "call_tir with a constant": "add",
    "call_tir_inplace": "double_inplace",
    "call_dps_packed": "test_carve.sine",
    "call_pure_packed with a shape": "vm.builtin.reshape",
    "unit function": "cumsum",
}


def _arrays(recording, values):
    return [
        recording.store.parameter(value.name)
        if isinstance(value, ParameterValue)
        else recording.store.tensor(value.digest)
        for value in values
        if isinstance(value, TensorValue | ParameterValue)
    ]


def _one_case(recording, unit, index=0):
    record = recording.records_of(unit)[index]
    call = recording.call_of(unit)
    function = case_function(recording.lowered, call, record, recording.weight_type)
    return record, unit_module(recording.lowered, {"main": function})


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("index", [0, 2], ids=["3 rows", "5 rows"])
def test_a_unit_module_alone_gives_the_recorded_outputs(recording, unit, index):
    """Whatever kind of call it is, and also after a trip through JSON."""
    record, module = _one_case(recording, unit, index)
    relax.analysis.well_formed(module)
    module = tvm.ir.load_json(tvm.ir.save_json(module))
    vm = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    arguments = [tvm.runtime.tensor(np.array(a)) for a in _arrays(recording, record.inputs)]
    outputs = vm["main"](*arguments)
    oracles = _arrays(recording, record.outputs)
    assert len(outputs) == len(oracles) > 0
    for output, oracle in zip(outputs, oracles, strict=True):
        np.testing.assert_array_equal(output.numpy(), oracle)


def test_a_unit_module_holds_only_what_the_unit_calls(recording):
    _, module = _one_case(recording, "increment")
    assert {gvar.name_hint for gvar in module.functions} == {"main", "increment"}


def test_the_lowered_module_is_unmodified(recording):
    before = tvm.ir.save_json(recording.lowered)
    _one_case(recording, "add_and_subtract")
    assert tvm.ir.save_json(recording.lowered) == before


def test_a_call_that_never_returned_is_not_carvable(recording):
    record = replace(recording.records_of("increment")[0], outputs=None)
    with pytest.raises(NotCarvableError, match="it never returned on the source"):
        case_function(
            recording.lowered, recording.call_of("increment"), record, recording.weight_type
        )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda inputs: (), "its capture holds 0 values, fewer than it has arguments"),
        (lambda inputs: (*inputs, 1), "its capture holds 2 values, more than it has arguments"),
        (
            lambda inputs: (replace(inputs[0], dtype="float16"),),
            "its capture holds .*float16.* for an argument of .*float32",
        ),
    ],
)
def test_a_capture_of_another_call_is_refused(recording, inputs, message):
    record = recording.records_of("increment")[0]
    with pytest.raises(NotCarvableError, match=message):
        case_function(
            recording.lowered,
            recording.call_of("increment"),
            replace(record, inputs=inputs(record.inputs)),
            recording.weight_type,
        )


@I.ir_module
class Objects:
    @R.function(pure=False)
    def main(x: R.Tensor((4,), "float32"), cache: R.Object):
        a = R.call_dps_packed("attend", (cache, x), out_ty=R.Tensor((4,), "float32"))
        _ = R.call_packed("forget", a, ty_args=R.Tuple)
        b = R.call_packed("snapshot", a, ty_args=R.Object)
        return a, b


def _tensor():
    return TensorValue(digest="d", dtype="float32", shape=(4,))


@pytest.mark.parametrize(
    ("unit", "inputs", "outputs", "reason"),
    [
        (
            "attend",
            (OpaqueValue(type_key="relax.vm.KVCache"), _tensor()),
            (_tensor(),),
            "it takes an opaque relax.vm.KVCache, which only its run has",
        ),
        ("forget", (_tensor(),), (), "it returns nothing to compare"),
        (
            "snapshot",
            (_tensor(),),
            (OpaqueValue(type_key="Snapshot"),),
            "it returns R.Any, expected tensors only",
        ),
    ],
)
def test_what_cannot_be_replayed_has_a_reason(unit, inputs, outputs, reason):
    module = AnnotateSites()(Objects)
    site, call = next(item for item in annotated_calls(module) if item[0].unit == unit)
    record = CallRecord(
        sample="s",
        frame=0,
        function="main",
        call=0,
        site=site.id,
        inputs=inputs,
        outputs=outputs,
    )
    with pytest.raises(NotCarvableError) as caught:
        case_function(module, call, record, lambda name: pytest.fail(name))
    assert str(caught.value) == reason
