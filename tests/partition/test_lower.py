# ruff: noqa: N812 - TVMScript
"""One lowered module for both sides."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tvm
from tiny_model import UNITS, Tiny, in_numpy
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.errors import LoweringError
from relax_tapml.partition.built_functions import flat_values
from relax_tapml.partition.lower import lower, lowering_notes, mark_inputs
from relax_tapml.passes.annotate_sites import annotated_calls


def test_every_operator_is_a_named_call_of_a_unit(lowered):
    """The scan included, which no target-independent pass lowers; a unit may have many sites."""
    sites = [site for site, _ in annotated_calls(lowered)]
    assert [site.ordinal for site in sites] == list(range(len(sites)))
    assert {site.unit for site in sites} == set(UNITS)
    assert sum(site.unit == "matmul" for site in sites) == 2
    relax.analysis.well_formed(lowered)


def test_the_model_is_not_changed_and_computes_the_same(lowered, tiny):
    """Against numpy in float64."""
    before = tvm.ir.save_json(Tiny)
    vm = relax.VirtualMachine(tvm.compile(lower(Tiny), "llvm"), tvm.cpu())
    assert tvm.ir.save_json(Tiny) == before
    for sample in tiny.samples:
        args = [tvm.runtime.tensor(a) for a in (*sample.arrays, *tiny.params.values())]
        outputs = flat_values(vm["main"](*args))
        for got, wanted in zip(outputs, in_numpy(*sample.arrays, **tiny.params), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


@I.ir_module
class Scatter:
    @R.function
    def main(
        x: R.Tensor((4,), "float32"), i: R.Tensor((2,), "int64"), u: R.Tensor((2,), "float32")
    ):
        with R.dataflow():
            y = R.exp(x)
            z = R.scatter_elements(y, i, u)
            v = R.sort(z)
            R.output(v)
        return v


@pytest.mark.parametrize("module", [Tiny, Scatter], ids=["tiny", "scatter"])
def test_no_target_is_looked_at(module):
    """Under a GPU's target the units are the same."""
    with tvm.target.Target("cuda"):
        on_gpu = lower(module)
    tvm.ir.assert_structural_equal(on_gpu, lower(module))


def test_operators_with_lowerings_of_their_own_are_units():
    """Scatter and sort are left to each side."""
    sites = [site.unit for site, _ in annotated_calls(lower(Scatter))]
    assert sites == ["tir_exp", "scatter_elements", "sort"]


def test_a_lowered_module_is_returned_as_it_is(lowered):
    """A pipeline of one's own may have lowered and named it."""
    assert lower(lowered).same_as(lowered)


def test_a_module_without_operators_is_refused():
    """There is nothing to do, and a run that passes would be misleading."""

    @I.ir_module
    class Module:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            return x

    with pytest.raises(LoweringError, match="operator call"):
        lower(Module)


def test_a_pass_that_raises_is_named(monkeypatch):
    """With the last line of its message."""

    @tvm.transform.module_pass(opt_level=0, name="Breaks")
    def breaks(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        raise ValueError("first line\nno such thing")

    monkeypatch.setattr("relax_tapml.partition.lower.NAMING", (breaks,))
    with pytest.raises(LoweringError) as error:
        lower(Tiny)
    assert str(error.value) == (
        "lowering the model: pass Breaks failed: no such thing. The module must be well-formed "
        "Relax that tvm.compile accepts"
    )
    assert isinstance(error.value.__cause__, Exception)


def test_inputs_are_marked_once():
    """The last parameters are weights if their names are, unless the module marks them."""
    assert not (Tiny["main"].attrs and "num_input" in Tiny["main"].attrs)
    *_, last = [var.name for var in Tiny["main"].params]
    marked = mark_inputs(Tiny, {last})
    count = len(Tiny["main"].params) - 1
    assert int(marked["main"].attrs["num_input"]) == count
    assert int(mark_inputs(marked, ())["main"].attrs["num_input"]) == count
    assert int(mark_inputs(Tiny, ())["main"].attrs["num_input"]) == count + 1


@I.ir_module(check_well_formed=False)  # its shape is a value
class ShapeArithmetic:
    """As importers of ONNX write a reshape; ``FoldConstant`` asserts on it in ``main``."""

    @R.function
    def main(x: R.Tensor(("n", 4), "float32")):
        with R.dataflow():
            shape = R.shape_of(x)
            extents = R.shape_to_tensor(shape)
            again = R.tensor_to_shape(extents)
            y = R.reshape(R.exp(x), again)
            R.output(y)
        return y

    @R.function
    def other(x: R.Tensor((2,), "float32")):
        with R.dataflow():
            y = R.add(x, R.add(R.const([1.0, 2.0], "float32"), R.const([1.0, 1.0], "float32")))
            R.output(y)
        return y


def test_a_pass_that_only_makes_it_faster_may_fail(caplog):
    """The function that it fails on is not folded, the other one is; a note has the reason."""
    lowered = lower(ShapeArithmetic)
    (note,) = lowering_notes(lowered)
    assert re.search("FoldConstant.* main .*AssertionError", note.text)
    assert [record.getMessage() for record in caplog.records] == [
        f"lowering the model: {note.text}"
    ]
    sites = [site.id for site, _ in annotated_calls(lowered)]
    assert [s for s in sites if s.startswith("other")] == ["other/000/add"]
    vm = relax.VirtualMachine(tvm.compile(lowered, "llvm"), tvm.cpu())
    x = np.arange(12, dtype="float32").reshape(3, 4) / 8
    np.testing.assert_allclose(vm["main"](tvm.runtime.tensor(x)).numpy(), np.exp(x), rtol=1e-5)
    assert lowering_notes(lower(Tiny)) == []


def test_without_fusion_every_operator_is_a_unit(monkeypatch):
    """Neither pass of the two counts where one fails."""

    @tvm.transform.module_pass(opt_level=0, name="FuseTIR")
    def breaks(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        raise ValueError("no")

    monkeypatch.setattr(relax.transform, "FuseTIR", lambda: breaks)
    lowered = lower(Tiny)
    (note,) = lowering_notes(lowered)
    assert "KeepOrigins" in note.text
    assert note.text.endswith(": no")
    assert not any("fused" in site.unit for site, _ in annotated_calls(lowered))
