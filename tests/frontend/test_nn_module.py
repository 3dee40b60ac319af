import numpy as np
import pytest
from refusals import refused
from tvm.relax.frontend import nn

from relax_tapml.errors import UsageError
from relax_tapml.frontend.model import Sample
from relax_tapml.frontend.nn_module import from_nn_module
from relax_tapml.tensor_file import dump_tensors


class Perceptron(nn.Module):
    def __init__(self):
        self.hidden = nn.Linear(4, 8)
        self.out = nn.Linear(8, 2, bias=False)

    def forward(self, x: nn.Tensor):
        return self.out(nn.op.relu(self.hidden(x)))


SPEC = {"forward": {"x": nn.spec.Tensor(["n", 4], "float32")}}


@pytest.fixture
def params():
    random = np.random.default_rng(0)
    shapes = {"out.weight": (2, 8), "hidden.bias": (8,), "hidden.weight": (8, 4)}
    return {name: random.standard_normal(shape, "float32") for name, shape in shapes.items()}


@pytest.fixture
def samples():
    random = np.random.default_rng(1)
    return [
        Sample(name=f"{rows} rows", arrays=(random.standard_normal((rows, 4), "float32"),))
        for rows in (1, 3)
    ]


def test_the_built_model_agrees_with_numpy(params, samples, run_on_llvm):
    model = from_nn_module(Perceptron(), SPEC, params=params, samples=samples)
    assert (model.name, model.entry) == ("Perceptron", "forward")
    assert list(model.params) == ["hidden.weight", "hidden.bias", "out.weight"]
    for sample, (actual,) in zip(samples, run_on_llvm(model), strict=True):
        hidden = sample.arrays[0] @ params["hidden.weight"].T + params["hidden.bias"]
        expected = np.maximum(hidden, 0) @ params["out.weight"].T
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_parameters_come_from_a_file(params, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(dump_tensors(params))
    model = from_nn_module(Perceptron(), SPEC, params=tmp_path / "weights.safetensors")
    for name, array in params.items():
        np.testing.assert_array_equal(model.params[name], array, strict=True)


def test_a_modules_own_data_is_used_where_none_is_given(params):
    module = Perceptron()
    module.out.weight.data = params.pop("out.weight")
    own = module.out.weight.data.numpy()
    model = from_nn_module(module, SPEC, params=params)
    np.testing.assert_array_equal(model.params["out.weight"], own, strict=True)


def test_a_missing_parameter_is_named(params):
    del params["hidden.bias"]
    with refused(UsageError, "1 of 3", "Perceptron", "hidden.bias", "params="):
        from_nn_module(Perceptron(), SPEC, params=params)


def test_a_parameter_of_another_name_is_refused(params):
    with refused(UsageError, "'forward'", "missing: none", "head.weight"):
        from_nn_module(Perceptron(), SPEC, params={**params, "head.weight": params["out.weight"]})


def test_a_parameter_of_another_shape_is_refused(params, samples):
    params["out.weight"] = params["out.weight"].T
    with refused(UsageError, "'out.weight' of 'forward'", "[2, 8], got [8, 2]"):
        from_nn_module(Perceptron(), SPEC, params=params, samples=samples)


def test_a_missing_method_is_named(params):
    with refused(UsageError, "'prefill'", "forward", "entry="):
        from_nn_module(Perceptron(), SPEC, params=params, entry="prefill")


def test_a_file_that_is_cut_short_is_named(params, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(dump_tensors(params)[:-1])
    with refused(UsageError, file, "cannot be read"):
        from_nn_module(Perceptron(), SPEC, params=file)


def test_packed_parameters_become_one_each(params, samples, run_on_llvm):
    spec = {
        "forward": {
            "x": nn.spec.Tensor(["n", 4], "float32"),
            "$": {"param_mode": "packed", "effect_mode": "none"},
        }
    }
    plain = from_nn_module(Perceptron(), SPEC, params=params, samples=samples)
    packed = from_nn_module(Perceptron(), spec, params=params, samples=samples)
    assert list(packed.params) == ["hidden.weight", "hidden.bias", "out.weight"]
    for ours, theirs in zip(run_on_llvm(packed), run_on_llvm(plain), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
