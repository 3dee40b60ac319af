"""Products, convolutions and norms of narrow floats."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from torch_functions import agrees, module_of

from relax_tapml.errors import UsageError
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.signature import check_model
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

HALF = torch.linspace(-3, 3, 6, dtype=torch.float16).reshape(2, 3)
N = torch.export.Dim("n", min=4, max=40)


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


def test_an_instance_norm_takes_the_statistics_of_its_input(run_on_llvm):
    """Momentum is for running statistics, which it has none of."""
    image = torch.linspace(-2, 3, 96).reshape(2, 3, 4, 4).sin()
    agrees(from_torch(torch.nn.InstanceNorm2d(3), (image,)), run_on_llvm, rtol=1e-4, atol=1e-5)


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
