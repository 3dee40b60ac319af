"""Elements in PyTorch's dtype, with its values."""

from __future__ import annotations

import pytest
from torch_functions import agrees, module_of

from relax_tapml._compat import IS_TVM_026
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

INTEGERS = torch.tensor([[1, 2, 3], [4, 5, 6]])
N = torch.export.Dim("n", min=4, max=40)

NO_ARITHMETIC = pytest.mark.skipif(
    IS_TVM_026, reason="the importer of TVM 0.26 has no arithmetic of dimensions"
)


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
    """Of the second one only where its factor is true."""

    def function(x):
        return (x > 2) + (x < 2), torch.add(x > 2, x < 2, alpha=False)

    agrees(from_torch(module_of(function), (INTEGERS,)), run_on_llvm)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("function", [torch.selu, lambda x: torch.celu(x, 2.0), torch.nn.ELU(0.5)])
def test_exponential_units_have_their_scales(function, dtype, run_on_llvm):
    """Also where the exponential of what is not chosen overflows."""
    x = torch.tensor([[-3.0, -0.5, 0], [0.5, 2, 100]]).to(dtype)
    agrees(from_torch(module_of(function), (x,)), run_on_llvm, rtol=2e-3, atol=1e-3)
