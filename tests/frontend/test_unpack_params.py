# ruff: noqa: N812 - TVMScript has its own conventions
import dataclasses

import numpy as np
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.frontend._callable import from_module
from relax_tapml.frontend._unpack_params import UnpackParams
from relax_tapml.frontend.model import Sample


@I.ir_module
class Before:
    @R.function
    def main(
        x: R.Tensor(("n", 4), "float32"),
        packed_params: R.Tuple(R.Tensor((4,), "float32"), R.Tensor((4,), "float32")),
    ) -> R.Tensor(("n", 4), "float32"):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            scale: R.Tensor((4,), "float32") = packed_params[0]
            scaled = R.multiply(x, scale)
            shift: R.Tensor((4,), "float32") = packed_params[1]
            shifted = R.add(scaled, shift)
            R.output(shifted)
        return shifted


@I.ir_module
class Expected:
    @R.function
    def main(
        x: R.Tensor(("n", 4), "float32"),
        packed_params_0: R.Tensor((4,), "float32"),
        packed_params_1: R.Tensor((4,), "float32"),
    ) -> R.Tensor(("n", 4), "float32"):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            scale: R.Tensor((4,), "float32") = packed_params_0
            scaled = R.multiply(x, scale)
            shift: R.Tensor((4,), "float32") = packed_params_1
            shifted = R.add(scaled, shift)
            R.output(shifted)
        return shifted


def test_each_item_becomes_a_parameter_and_the_input_module_stays():
    original = tvm.ir.save_json(Before)
    after = UnpackParams("main")(Before)
    tvm.ir.assert_structural_equal(after, Expected)
    assert [var.name for var in after["main"].params] == ["x", "packed_params_0", "packed_params_1"]
    assert tvm.ir.save_json(Before) == original
    tvm.relax.analysis.well_formed(after)


def test_a_module_without_a_tuple_is_returned_as_it_is():
    assert UnpackParams("main")(Expected).same_as(Expected)


def test_a_tuple_used_whole_is_rebuilt_from_its_items():
    @I.ir_module
    class Whole:
        @R.function
        def main(
            x: R.Tensor((2,), "float32"), packed: R.Tuple(R.Tensor((4,), "float32"))
        ) -> R.Tuple(R.Tensor((4,), "float32")):
            R.func_attr({"num_input": 1})
            return packed

    @I.ir_module
    class Rebuilt:
        @R.function
        def main(x: R.Tensor((2,), "float32"), packed_0: R.Tensor((4,), "float32")) -> R.Tuple(
            R.Tensor((4,), "float32")
        ):
            R.func_attr({"num_input": 1})
            return (packed_0,)

    tvm.ir.assert_structural_equal(UnpackParams("main")(Whole), Rebuilt)


def test_items_take_given_names():
    after = UnpackParams("main", ["scale", "shift"])(Before)
    assert [var.name for var in after["main"].params] == ["x", "scale", "shift"]


def test_without_num_input_every_tuple_is_taken_apart():
    module = tvm.IRModule({"main": Before["main"].without_attr("num_input")})
    arrays = [np.ones(4, "float32"), np.zeros(4, "float32")]
    model = from_module(module, arrays, name="packed")
    assert list(model.params) == ["packed_params_0", "packed_params_1"]


def test_a_model_with_packed_params_runs(run_on_llvm):
    scale, shift = np.arange(4, dtype="float32"), np.ones(4, "float32")
    x = np.arange(8, dtype="float32").reshape(2, 4)
    model = from_module(Before, [scale, shift], name="packed")
    assert list(model.params) == ["packed_params_0", "packed_params_1"]
    model = dataclasses.replace(model, samples=(Sample(name="s", arrays=(x,)),))
    np.testing.assert_array_equal(run_on_llvm(model)[0][0], x * scale + shift)
