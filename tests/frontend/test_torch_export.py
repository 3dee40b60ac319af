import sys

import ml_dtypes
import numpy as np
import pytest
from refusals import refused

from relax_tapml.errors import LoweringError, StoreError, UsageError
from relax_tapml.frontend.model import Sample
from relax_tapml.frontend.torch_export import from_torch, load_pt2

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")


class Convolution(torch.nn.Module):
    """Buffers, tied weights, an unused parameter, nested outputs."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.unused = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("gain", torch.full((4,), 2.0))

    def forward(self, image, bias):
        features = self.norm(self.conv(image)).mean((2, 3))
        hidden = self.second(torch.relu(self.first(features))) * self.gain
        return {"hidden": hidden, "rest": (hidden + bias, hidden.sum())}


@pytest.fixture
def convolution():
    torch.manual_seed(0)
    module = Convolution()
    module.norm.running_mean.normal_()
    return module


@pytest.fixture
def arguments():
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.ones(4)


def module_of(function, **attributes):
    module = torch.nn.Module()
    for name, value in attributes.items():
        module.register_buffer(name, value)
    module.__class__ = type("Tiny", (torch.nn.Module,), {"forward": function})
    return module


def test_the_built_model_agrees_with_torch(convolution, arguments, run_on_llvm):
    model = from_torch(convolution, arguments)
    assert model.name == "Convolution"
    assert list(model.params)[:3] == ["p_unused", "p_conv_weight", "p_conv_bias"]
    assert [array.shape for array in model.samples[0].arrays] == [(1, 3, 8, 8), (4,)]
    expected = model.reference(model.samples[0])
    assert [array.shape for array in expected] == [(1, 4), (1, 4), ()]
    for actual, array in zip(run_on_llvm(model)[0], expected, strict=True):
        np.testing.assert_allclose(actual, array, rtol=1e-5, atol=1e-6)


def test_parameters_are_the_modules_own(convolution, arguments):
    model = from_torch(convolution, arguments)
    own = dict(convolution.named_parameters(remove_duplicate=False))
    for name, parameter in own.items():
        ours = model.params["p_" + name.replace(".", "_")]
        np.testing.assert_array_equal(ours, parameter.detach().numpy(), strict=True)
    assert len(model.params) == len(own)


def test_keyword_arguments_and_samples_are_taken(convolution, arguments, run_on_llvm):
    image, bias = (argument.numpy() for argument in arguments)
    samples = [Sample(name="mine", arrays=(image + 1, bias))]
    model = from_torch(
        convolution, dict(zip(("image", "bias"), arguments, strict=True)), samples=samples, name="c"
    )
    assert (model.name, [sample.name for sample in model.samples]) == ("c", ["mine"])
    with torch.no_grad():
        expected = convolution(arguments[0] + 1, arguments[1])["hidden"].numpy()
    np.testing.assert_array_equal(model.reference(samples[0])[0], expected)
    np.testing.assert_allclose(run_on_llvm(model)[0][0], expected, rtol=1e-5, atol=1e-6)


def test_a_dynamic_dimension_stays_symbolic(run_on_llvm):
    rows = torch.export.Dim("rows", min=2, max=64)
    samples = [Sample(name=str(n), arrays=(np.ones((n, 4), "float32"),)) for n in (2, 5)]
    model = from_torch(
        torch.nn.Linear(4, 3), (torch.ones(3, 4),), samples=samples, dynamic_shapes=({0: rows},)
    )
    for sample, actual in zip(samples, run_on_llvm(model), strict=True):
        np.testing.assert_allclose(actual[0], model.reference(sample)[0], rtol=1e-5, atol=1e-6)


def test_bfloat16_is_kept_on_both_sides():
    model = from_torch(
        module_of(lambda self, x: x * 2), (torch.tensor([1.5, -3.0], dtype=torch.bfloat16),)
    )
    (array,) = model.samples[0].arrays
    assert array.dtype == ml_dtypes.bfloat16
    (output,) = model.reference(model.samples[0])
    assert output.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(output.astype("float32"), [3, -6])


def test_a_program_on_disk_is_imported(convolution, arguments, tmp_path, run_on_llvm):
    program = torch.export.export(convolution.eval(), arguments)
    torch.export.save(program, tmp_path / "conv.pt2")
    model = load_pt2(tmp_path / "conv.pt2")
    assert model.name == "conv"
    with torch.no_grad():
        expected = convolution(*arguments)["hidden"].numpy()
    np.testing.assert_allclose(run_on_llvm(model)[0][0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.reference(model.samples[0])[0], expected)


def test_a_file_that_is_no_program_is_refused(tmp_path):
    (tmp_path / "m.pt2").write_bytes(b"PK not really")
    with refused(StoreError, f"{tmp_path}/m.pt2", "torch.export.save", torch.__version__):
        load_pt2(tmp_path / "m.pt2")


def test_a_converter_closes_the_gap(run_on_llvm):
    from tvm import relax

    def cumprod(node, importer):
        emit = importer.block_builder.emit
        x = emit(relax.op.astype(importer.env[node.args[0]], "int64"))
        return emit(relax.op.cumprod(x, node.args[1]))

    model = from_torch(
        module_of(lambda self, x: x.cumprod(0)),
        (torch.tensor([True, True, False]),),
        convert_map={"cumprod.default": cumprod},
    )
    np.testing.assert_array_equal(run_on_llvm(model)[0][0], [1, 1, 0])


@pytest.mark.parametrize(
    "read",
    [
        lambda x, i, j: x[i],
        lambda x, i, j: x[:, i],
        lambda x, i, j: x[i, i],
        lambda x, i, j: x[i, j],
        lambda x, i, j: x[..., [-2], :],
    ],
    ids=["rows", "columns", "same", "zipped", "constant"],
)
def test_negative_indices_count_from_the_end(read, run_on_llvm):
    module = module_of(lambda self, x, i, j: read(x, i, j) + 0 * (i.sum() + j.sum()))
    x = torch.arange(20, dtype=torch.float32).reshape(4, 5)
    model = from_torch(module, (x, torch.tensor([-1, 2, -3]), torch.tensor([0, -5, 4])))
    expected = model.reference(model.samples[0])[0]
    np.testing.assert_array_equal(run_on_llvm(model)[0][0], expected, strict=True)


def test_a_shape_the_importer_gets_wrong_is_refused():
    from tvm import relax

    def converter(node, importer):
        return importer.block_builder.emit(relax.op.expand_dims(importer.env[node.args[0]], 0))

    def flattened(node, importer):
        x = importer.env[node.args[0]]
        return importer.block_builder.emit(relax.op.strided_slice(x, [0], [0], [2]))

    module = module_of(lambda self, x: torch.exp(x))
    for wrong, text in (
        (converter, "expected 1 dimensions, got 2"),
        (flattened, "expected shape [3], got [2]"),
    ):
        with refused(LoweringError, "'exp'", "Tiny", text, "convert_map={'exp.default'"):
            from_torch(module, (torch.ones(3),), convert_map={"exp.default": wrong})


def writes(self, x):
    self.total.add_(x)
    return self.total + 0


def raises(self, x):
    raise RuntimeError("this module is broken")


ONES = torch.ones(3)


@pytest.mark.parametrize(
    ("error", "forward", "given", "named"),
    [
        (
            *(LoweringError, lambda self, x: x.cumprod(0), (ONES > 0,)),
            ("'cumprod'", "Tiny", "int64, got bool", "convert_map={'cumprod.default'"),
        ),
        (
            *(LoweringError, lambda self, x: torch.special.bessel_j0(x), (ONES,)),
            ("Tiny", "special_bessel_j0.default", "convert_map="),
        ),
        (UsageError, lambda self, x: (x + 1, 7), (ONES,), ("Tiny", "output 1 is 7", "wrapper")),
        (UsageError, lambda self, x, k: x * k, (ONES, 2), ("Tiny", "'k' is 2", "wrapper")),
        (UsageError, writes, (ONES,), ("Tiny writes to total", "wrapper")),
        (UsageError, raises, (ONES,), ("torch.export of Tiny failed",)),
    ],
    ids=["dtype", "converter", "output", "input", "writes", "raises"],
)
def test_what_cannot_be_imported_is_refused(error, forward, given, named):
    """A dtype that the importer gets wrong and an operator without a converter, at the node."""
    with refused(error, *named):
        from_torch(module_of(forward, total=torch.zeros(3)), given)


def test_samples_are_checked(convolution, arguments):
    samples = [Sample(name="mine", arrays=(np.ones((1, 3, 8, 8)), np.ones(4, "float32")))]
    with refused(UsageError, "mine: ", "'image'", "float32, got float64"):
        from_torch(convolution, arguments, samples=samples)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with refused(UsageError, "torch", "'relax-tapml[torch]'"):
        from_torch(None)
