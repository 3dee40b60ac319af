"""Embedding bags."""

from __future__ import annotations

import pytest
from torch_functions import agrees, module_of

from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

INDICES = torch.tensor([1, 2, 4, 5, 4, 3])
TABLE = torch.linspace(-3, 2, 40).sin().reshape(10, 4)
B, L = torch.export.Dim("b", min=2, max=40), torch.export.Dim("l", min=3, max=40)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_may_be_empty_padded_and_closed(mode, run_on_llvm):
    """A bag without rows is zero; of closed ones the last offset is the number of rows."""

    def forward(indices, offsets):
        bag = torch.nn.functional.embedding_bag
        closed = torch.tensor([0, 2, 6])
        return (
            bag(indices, TABLE, offsets, mode=mode),
            bag(indices.reshape(2, 3), TABLE.bfloat16(), mode=mode, padding_idx=-6),
            bag(indices, TABLE.half(), closed, mode=mode, include_last_offset=True, padding_idx=2),
        )

    model = from_torch(module_of(forward), (INDICES, torch.tensor([0, 3, 3, 5])))
    agrees(model, run_on_llvm, rtol=1e-2, atol=1e-6)


def test_rows_have_weights_and_any_number_of_bags(run_on_llvm):
    samples = [
        (INDICES, torch.tensor([0, 3]), torch.linspace(-1, 2, 6)),
        (INDICES.repeat(2), torch.tensor([0, 5, 7]), torch.linspace(-1, 2, 12)),
    ]

    def forward(indices, offsets, weights):
        return torch.nn.functional.embedding_bag(
            indices, TABLE, offsets, mode="sum", per_sample_weights=weights
        )

    shapes = (({0: L}, {0: B}, {0: L}),)
    model = from_torch(module_of(forward), samples[0], samples=samples, dynamic_shapes=shapes)
    agrees(model, run_on_llvm, rtol=1e-6, atol=1e-6)
