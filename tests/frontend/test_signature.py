# ruff: noqa: N812 - TVMScript has its own conventions
import dataclasses

import numpy as np
import pytest
import tvm
from refusals import refused
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.errors import UsageError
from relax_tapml.frontend.model import Meaning, Model, Sample
from relax_tapml.frontend.signature import check_model, signature_of


def test_the_last_parameters_are_the_models_without_num_input(affine):
    signature = signature_of(affine.module, "main", 1)
    assert signature.input_names == ("x", "y")
    assert signature.param_names == ("scale",)


def test_num_input_decides_where_it_is_set(affine):
    module = tvm.IRModule({"main": affine.module["main"].with_attr("num_input", 1)})
    assert signature_of(module, "main", 1).param_names == ("y", "scale")


def test_a_missing_entry_function_is_named(affine):
    with refused(UsageError, "'prefill'", "main", "entry="):
        signature_of(affine.module, "prefill", 1)


def test_more_parameters_than_arguments_are_refused(affine):
    with refused(UsageError, "'main'", "3 arguments", "7 model parameters", "num_input"):
        signature_of(affine.module, "main", 7)


def test_two_parameters_of_one_name_are_refused():
    builder = relax.BlockBuilder()
    same = [relax.Var("x", relax.TensorType((2,), "float32")) for _ in range(2)]
    with builder.function("main", same):
        builder.emit_func_output(builder.emit(relax.op.add(*same)))
    with refused(UsageError, "'main'", "several", "x"):
        signature_of(builder.get(), "main", 0)


X = np.zeros((2, 4), "float32")
Y = np.zeros(4, "int64")


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ((X,), ("2 arrays (x, y), got 1", "'main'")),
        ((X.astype("float64"), Y), ("'x'", "float32, got float64", "astype('float32')")),
        ((X[:, :3], Y), ("'x'", "[n, 4], got [2, 3] (n = 2)")),
        ((X[0], Y), ("'x'", "[n, 4], got [4]")),
        ((X, Y[:3]), ("'y'", "[n * 2], got [3] (n = 2)")),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(affine, arrays, named):
    sample = Sample(name="s", arrays=arrays)
    with refused(UsageError, "s: ", *named):
        check_model(dataclasses.replace(affine, samples=(sample,)))


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"scales": X[0]}, ("'main'", "missing: scale;", "scales")),
        ({"scale": X}, ("'scale' of 'main'", "[4], got [2, 4]")),
        ({"scale": X[0].astype("float16")}, ("'scale' of 'main'", "float32, got float16")),
    ],
)
def test_parameters_that_do_not_fit_are_refused(affine, params, named):
    with refused(UsageError, *named):
        check_model(dataclasses.replace(affine, params=params))


def test_parameters_in_another_order_are_refused(affine):
    with refused(UsageError, "'main'", "order", "expected y, scale; got scale, y"):
        check_model(dataclasses.replace(affine, params={"scale": X[0], "y": Y}))


def test_a_derived_dimension_may_come_before_its_variable():
    @I.ir_module
    class Module:
        @R.function
        def main(y: R.Tensor(("n * 2",), "float32"), x: R.Tensor(("n",), "float32")):
            return (y, x)

    def model(size):
        arrays = (np.zeros(size, "float32"), np.zeros(2, "float32"))
        return Model(name="m", module=Module, params={}, samples=(Sample(name="s", arrays=arrays),))

    check_model(model(4))
    with refused(UsageError, "s: ", "'y'", "[n * 2], got [5] (n = 2)"):
        check_model(model(5))


def test_an_input_that_is_no_tensor_is_refused():
    @I.ir_module
    class Module:
        @R.function
        def main(cache: R.Any):
            return cache

    sample = Sample(name="s", arrays=(X,))
    with refused(UsageError, "s: ", "'cache'", "R.Any", "tensors"):
        check_model(Model(name="m", module=Module, params={}, samples=(sample,)))


def test_a_meaning_may_be_given_by_name():
    options = {"name": "m", "module": None, "params": {}, "samples": ()}
    assert Model(**options, meaning="embedding").meaning is Meaning.EMBEDDING
    with pytest.raises(UsageError, match=r"'vectors'.*'embedding'"):
        Model(**options, meaning="vectors")
