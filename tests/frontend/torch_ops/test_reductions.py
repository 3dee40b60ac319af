"""Reductions and orders with PyTorch's values."""

from __future__ import annotations

import numpy as np
import pytest
from torch_functions import agrees, module_of

from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

INTEGERS = torch.tensor([[1, 2, 3], [4, 5, 6]])
HALF = torch.linspace(-3, 3, 6, dtype=torch.float16).reshape(2, 3)


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


def test_topk_in_any_order_is_sorted(run_on_llvm):
    """PyTorch does not define the order, so any order is right."""
    model = from_torch(
        module_of(lambda x: torch.topk(x, 2, dim=1, sorted=False)[0]), (HALF.float(),)
    )
    (actual,) = run_on_llvm(model)[0]
    np.testing.assert_array_equal(actual, np.sort(HALF.float().numpy(), axis=1)[:, :0:-1])
