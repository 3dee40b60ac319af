"""What TVM's importer gets wrong, right: in PyTorch's dtype, and with its values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from refusals import refused

from relax_tapml._compat import IS_TVM_026
from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.signature import check_model
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

INTEGERS = torch.tensor([[1, 2, 3], [4, 5, 6]])
HALF = torch.linspace(-3, 3, 6, dtype=torch.float16).reshape(2, 3)
N, M = torch.export.Dim("n", min=4, max=40), torch.export.Dim("m", min=6, max=40)

NO_ARITHMETIC = pytest.mark.skipif(
    IS_TVM_026, reason="the importer of TVM 0.26 has no arithmetic of dimensions"
)


def agrees(model, run_on_llvm, rtol=0.0, atol=0.0):
    """The first output of every sample has PyTorch's dtype, shape and values."""
    for sample, (actual, *_) in zip(model.samples, run_on_llvm(model), strict=True):
        expected = model.reference(sample)[0]
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(actual.astype(float), expected.astype(float), rtol, atol)


def module_of(function):
    """A module whose ``forward`` is the function."""
    body = {"forward": lambda self, *args: function(*args)}
    return type("Tiny", (torch.nn.Module,), body)()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2.5,
        lambda x: x + 0.5,
        lambda x: x - 0.5,
        lambda x: x**0.5,
        lambda x: x**2,
        lambda x: x / 2,
        lambda x: x / x.float(),
        lambda x: x // 2,
        lambda x: -x // 2,
        lambda x: torch.div(-x, 2, rounding_mode="trunc"),
        lambda x: torch.div(-x, 2.5, rounding_mode="trunc"),
        lambda x: torch.div(-x, 2.5, rounding_mode="floor"),
        lambda x: (x > 2).cumsum(0),
        lambda x: x.int().cumsum(0),
        torch.exp,
        torch.log1p,
        torch.rsqrt,
        lambda x: (x > 3) * 1.5,
    ],
)
def test_integers_become_what_pytorch_makes_of_them(function, run_on_llvm):
    """Dtype and values, for numbers and tensors as the other operand."""
    model = from_torch(module_of(function), (INTEGERS,))
    agrees(model, run_on_llvm, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x @ x.T,
        lambda x: torch.bmm(x[None], x.T[None]),
        lambda x: torch.addmm(x[0, :2], x, x.T, alpha=0.5, beta=2),
        lambda x: torch.addmm(x[0, :2], x, x.T, beta=0),
        lambda x: torch.baddbmm(x[None, :, :2], x[None], x.T[None], beta=0.5),
        lambda x: x / 3,
        lambda x: torch.nn.functional.linear(x, x, x[0, :2]),
    ],
)
def test_other_floats_keep_their_dtype(function, dtype, run_on_llvm):
    """Products are summed in float32 and rounded once, as PyTorch's are."""
    model = from_torch(module_of(function), (HALF.to(dtype),))
    rtol = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-12}[dtype]
    agrees(model, run_on_llvm, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("affine", [(), (HALF[0], HALF[1])], ids=["plain", "affine"])
def test_layer_norm_keeps_its_dtype(affine, dtype, run_on_llvm):
    """Also in bfloat16, which TVM does not lower by itself."""
    weights = [weight.to(dtype) for weight in affine]
    model = from_torch(
        module_of(lambda x: torch.nn.functional.layer_norm(x, (3,), *weights)), (HALF.to(dtype),)
    )
    agrees(model, run_on_llvm, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"])
def test_convolutions_keep_their_dtype(name, bias, dtype, run_on_llvm):
    """Summed in float32 and rounded once, before the bias is added."""
    kind, rank = getattr(torch.nn, name), int(name[-2])
    torch.manual_seed(0)
    model = from_torch(
        kind(4, 2, 3, bias=bias).to(dtype), (torch.randn(1, 4, *[5] * rank).to(dtype),)
    )
    agrees(model, run_on_llvm, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("shapes", [None, (({0: N},),)], ids=["fixed", "symbolic"])
@pytest.mark.parametrize("index", [lambda x: x[-1], lambda x: x[:, -2], lambda x: x[..., 0, -3]])
def test_a_negative_index_counts_from_the_end(index, shapes, run_on_llvm):
    """Of a dimension that is a number, and of one that is symbolic."""
    example = torch.arange(15, dtype=torch.float32).reshape(5, 3) + 1
    model = from_torch(module_of(lambda x: index(x * 2)), (example,), dynamic_shapes=shapes)
    agrees(model, run_on_llvm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.float16])
@pytest.mark.parametrize("name", ["add", "sub"])
def test_a_sum_has_its_factor(name, dtype, run_on_llvm):
    """Of tensors that are broadcast, and in the dtype of the result."""
    whole = INTEGERS.to(dtype)
    model = from_torch(
        module_of(lambda x, y: getattr(torch, name)(x, y, alpha=3)), (whole, INTEGERS[0])
    )
    agrees(model, run_on_llvm)


def test_the_sum_of_booleans_is_whether_one_is_true(run_on_llvm):
    agrees(from_torch(module_of(lambda x: (x > 2) + (x < 2)), (INTEGERS,)), run_on_llvm)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.amax(),
        lambda x: x.amin((0, -1), keepdim=True),
        lambda x: (x - 3).any(),
        lambda x: (x - 2).any(0),
        lambda x: torch.ops.aten.any.dims(x - 2, [0, 1], True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_reductions_that_tvm_has_no_converter_for(function, dtype, run_on_llvm):
    agrees(from_torch(module_of(function), (INTEGERS.to(dtype),)), run_on_llvm)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x > 2.5,
        lambda x: x == 2.5,
        lambda x: x <= x.float() - 0.5,
        lambda x: (x > 2) == (x > 3),
        lambda x: (x > 2) >= 1,
        lambda x: x.clamp(1.5, 4),
        lambda x: torch.remainder(x, 2.5),
        lambda x: torch.where(x > 2, x, 0.5),
        lambda x: torch.where(x > 2, x, x.float() / 2),
    ],
)
def test_integers_meet_other_numbers_as_they_are(function, run_on_llvm):
    """2.5 is not rounded to 2 because the tensor has integers."""
    agrees(from_torch(module_of(function), (INTEGERS,)), run_on_llvm, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sort(1)[0],
        lambda x: x.sort(1, descending=True)[1],
        lambda x: x.topk(2)[1],
        lambda x: x.max(0)[0],
        lambda x: x.argmax(1),
        torch.isnan,
    ],
)
def test_bfloat16_is_ordered_by_value(function, run_on_llvm):
    """Not by its bits, in which negative numbers are the largest."""
    x = torch.tensor([[-1.0, 2, -3], [4, -5, 0.5]]).bfloat16()
    agrees(from_torch(module_of(function), (x,)), run_on_llvm)


@NO_ARITHMETIC
@pytest.mark.parametrize(
    "function",
    [lambda x: x + x.shape[0], lambda x: x - x.shape[0] // 2, lambda x: x > x.shape[0] - 2],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_dimension_is_an_operand(function, dtype, run_on_llvm):
    example = torch.arange(15).reshape(5, 3).to(dtype)
    model = from_torch(module_of(function), (example,), dynamic_shapes=(({0: N},),))
    agrees(model, run_on_llvm)


@pytest.mark.parametrize("size", [(8, 7), (2, 3), None])
def test_nearest_neighbours_are_those_of_pytorch(size, run_on_llvm):
    """For sizes that are no multiples, and for scales that no whole size has."""
    image = torch.arange(40.0).reshape(1, 2, 4, 5)
    scale = None if size else (1.3, 1.7)

    def resize(x):
        return torch.nn.functional.interpolate(x, size, scale, mode="nearest")

    agrees(from_torch(module_of(resize), (image,)), run_on_llvm)


def test_a_scale_that_no_size_has_is_refused():
    """TVM would use the ratio of the sizes, and PyTorch does not."""

    def resize(x):
        return torch.nn.functional.interpolate(x, scale_factor=1.3, mode="bilinear")

    with refused(LoweringError, "upsample_bilinear2d", "a scale of 1.3 for a dimension of 4"):
        from_torch(module_of(resize), (torch.ones(1, 1, 4, 5),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("function", [torch.selu, lambda x: torch.celu(x, 2.0), torch.nn.ELU(0.5)])
def test_exponential_units_have_their_scales(function, dtype, run_on_llvm):
    """Also where the exponential of what is not chosen overflows."""
    x = torch.tensor([[-3.0, -0.5, 0], [0.5, 2, 100]]).to(dtype)
    agrees(from_torch(module_of(function), (x,)), run_on_llvm, rtol=2e-3, atol=1e-3)


def test_the_maxima_of_a_pooling_are_right_and_their_places_refused(run_on_llvm):
    """TVM's converter returns zeros for the places."""
    pool = torch.nn.functional.max_pool2d_with_indices
    image = torch.arange(32).reshape(1, 2, 4, 4) - 9
    agrees(from_torch(module_of(lambda x: pool(x, 2)[0]), (image,)), run_on_llvm)
    with refused(LoweringError, "getitem", "aten.max_pool2d_with_indices.default has no result 1"):
        from_torch(module_of(lambda x: pool(x, 2)[1]), (image,))


def test_a_second_result_that_a_converter_lacks_is_refused():
    """It is not the first one, even where that has its shape."""
    norm = torch.ops.aten.native_layer_norm.default
    with refused(LoweringError, "aten.native_layer_norm.default has no result 1"):
        from_torch(module_of(lambda x: norm(x, [1], None, None, 1e-5)[1]), (torch.ones(1),))


@pytest.mark.parametrize("padding", [0, 1])
def test_a_pooling_has_its_divisor(padding, run_on_llvm):
    image = torch.linspace(-1, 1, 96).reshape(1, 2, 6, 8).cos()

    def pool(x):
        return torch.nn.functional.avg_pool2d(x, (2, 3), 1, padding, False, False, 4)

    agrees(from_torch(module_of(pool), (image,)), run_on_llvm, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (torch.arange(16).reshape(1, 1, 4, 4), "averages of integers"),
        (torch.ones(1, 1, 5, 5), "divisor_override with ceil_mode"),
    ],
)
def test_poolings_that_would_be_wrong_are_refused(image, named):
    is_ceiled = image.is_floating_point()
    divisor = 3 if is_ceiled else None
    pooling = torch.nn.AvgPool2d((2, 2), ceil_mode=is_ceiled, divisor_override=divisor)
    with refused(LoweringError, "avg_pool2d.default", named):
        from_torch(pooling, (image,))


def test_an_instance_norm_takes_the_statistics_of_its_input(run_on_llvm):
    """Momentum is for running statistics, which it has none of."""
    image = torch.linspace(-2, 3, 96).reshape(2, 3, 4, 4).sin()
    agrees(from_torch(torch.nn.InstanceNorm2d(3), (image,)), run_on_llvm, rtol=1e-4, atol=1e-5)


def test_topk_in_any_order_is_sorted(run_on_llvm):
    """PyTorch does not define the order, so any order is right."""
    model = from_torch(
        module_of(lambda x: torch.topk(x, 2, dim=1, sorted=False)[0]), (HALF.float(),)
    )
    (actual,) = run_on_llvm(model)[0]
    np.testing.assert_array_equal(actual, np.sort(HALF.float().numpy(), axis=1)[:, :0:-1])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(x.shape[0], x.shape[1]),
        lambda x: x.reshape(x.shape[1], x.shape[0]),
        pytest.param(lambda x: x[:, : x.shape[0] // 2], marks=NO_ARITHMETIC),
        lambda x: torch.arange(50)[: x.shape[1]] + x,
        pytest.param(lambda x: torch.arange(50)[1 : x.shape[1] + 1] + x, marks=NO_ARITHMETIC),
        pytest.param(
            lambda x: x[..., -1:],
            marks=pytest.mark.skipif(
                IS_TVM_026, reason="strided_slice of TVM 0.26 takes -1 of an open extent for 0"
            ),
        ),
        lambda x: x[:, 1:],
        lambda x: x[:, :-1],
        lambda x: x[:, :-1] + x[:, 1:],
        lambda x: x[:, 2:-1] * 2,
        lambda x: x[:, :-2:2],
        lambda x: x[:, -3:],
        lambda x: x[0, :1].repeat(x.shape[0], 1),
        lambda x: x[None].repeat(x.shape[1], 2, 1),
        lambda x: x[:1].repeat(x.shape[0], x.shape[1]),
        lambda x: torch.empty(x.shape[0], 2).fill_(3) + x[0, 0],
        lambda x: torch.zeros(x.shape[1]) + x.sum(),
        lambda x: torch.cat([x, torch.ones(x.shape[0], 3)], 1).flip(0),
    ],
)
def test_dimensions_may_be_symbolic(function, run_on_llvm):
    """For other extents than those it was exported with."""
    samples = [[torch.arange(n * m).reshape(n, m).float()] for n, m in ((4, 6), (5, 9), (12, 7))]
    model = from_torch(
        module_of(function), samples[0], samples=samples, dynamic_shapes=(({0: N, 1: M},),)
    )
    agrees(model, run_on_llvm)


def test_a_length_that_is_a_multiple_is_taken(run_on_llvm):
    """As a sound's is that a model cuts into tokens."""
    samples = [(torch.arange(5.0 * n),) for n in (4, 7)]

    def function(x):
        return torch.nn.functional.conv1d(x[None, None], torch.ones(1, 1, 5), stride=5)

    model = from_torch(
        module_of(function), samples[0], samples=samples, dynamic_shapes=(({0: 5 * N},),)
    )
    agrees(model, run_on_llvm)
    wrong = dataclasses.replace(model, samples=as_samples([(np.zeros(21, "float32"),)]))
    with pytest.raises(UsageError, match=r"expected shape \[.*5.*\], got \[21\]"):
        check_model(wrong)
