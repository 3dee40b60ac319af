"""Elements by their places."""

from __future__ import annotations

import pytest
from torch_functions import agrees, module_of

from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

N = torch.export.Dim("n", min=4, max=40)


@pytest.mark.parametrize("shapes", [None, (({0: N},),)], ids=["fixed", "symbolic"])
@pytest.mark.parametrize("index", [lambda x: x[-1], lambda x: x[:, -2], lambda x: x[..., 0, -3]])
def test_a_negative_index_counts_from_the_end(index, shapes, run_on_llvm):
    """Of a dimension that is a number, and of one that is symbolic."""
    example = torch.arange(15, dtype=torch.float32).reshape(5, 3) + 1
    model = from_torch(module_of(lambda x: index(x * 2)), (example,), dynamic_shapes=shapes)
    agrees(model, run_on_llvm)
