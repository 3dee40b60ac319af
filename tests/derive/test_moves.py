"""Kernels that move and choose values are evaluated as they are, in any dtype."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from operator_kernels import kernel
from tvm import relax

from relax_tapml.derive._moves import Moves
from relax_tapml.derive.derivation import Derivation


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float8_e4m3fn", "float8_e5m2", "int8", "bool"]
)
def test_values_are_moved_without_a_change(dtype):
    """A transpose returns the same bits, NaN and denormals included."""
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    bits = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 256, (6, 8 * 4), np.uint8)
    x = np.ascontiguousarray(bits).view(kind)[:, :8].copy()
    function = kernel(relax.op.permute_dims, ((6, 8), dtype))
    assert Moves(function).are_all
    found = Derivation(function, [1]).evaluated({0: x}, {}, [np.zeros((8, 6), kind)])
    assert found is not None
    [result], _ = found
    assert result.tobytes() == np.ascontiguousarray(x.T).tobytes()


@pytest.mark.parametrize("body", [relax.op.exp, lambda x: relax.op.astype(x, "float16")])
def test_what_computes_a_float_is_no_move(body):
    """A cast is none either: it may round."""
    assert not Moves(kernel(body, ((6, 8), "float32"))).are_all
