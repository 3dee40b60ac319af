"""What holds for every converter."""

from __future__ import annotations

import pytest
from refusals import refused
from torch_functions import module_of

from relax_tapml.errors import LoweringError
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")


def test_a_second_result_that_a_converter_lacks_is_refused():
    """It is not the first one, even where that has its shape."""
    norm = torch.ops.aten.native_layer_norm.default
    with refused(LoweringError, "aten.native_layer_norm.default has no result 1"):
        from_torch(module_of(lambda x: norm(x, [1], None, None, 1e-5)[1]), (torch.ones(1),))
