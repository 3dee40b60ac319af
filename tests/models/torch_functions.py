"""Functions as modules of PyTorch, and whether an imported one agrees with it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")


def module_of(function):
    """A module whose ``forward`` is the function."""
    body = {"forward": lambda self, *args: function(*args)}
    return type("Tiny", (torch.nn.Module,), body)()


def agrees(model, run_on_llvm, rtol=0.0, atol=0.0):
    """Every output of every sample has PyTorch's dtype, shape and values."""
    for sample, outputs in zip(model.samples, run_on_llvm(model), strict=True):
        for actual, expected in zip(outputs, model.reference(sample), strict=True):
            assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
            np.testing.assert_allclose(actual.astype(float), expected.astype(float), rtol, atol)
