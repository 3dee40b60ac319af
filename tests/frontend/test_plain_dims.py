"""A dimension that is computed from a symbol gets a symbol of its own, checked at run time."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from relax_tapml.frontend._plain_dims import with_plain_dims


@pytest.fixture
def multiple() -> relax.Function:
    """Takes ``3 * n + 1`` columns, and returns their sum and ``n`` zeros."""
    b, n = tirx.Var("b", "int64"), tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType((b, 3 * n + 1), "float32"))
    w = relax.Var("w", relax.TensorType((b,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w]):
        total = builder.emit(relax.op.sum(x, axis=1))
        builder.emit_func_output(
            relax.Tuple([total, builder.emit(relax.op.zeros((b, n), "float32"))])
        )
    return builder.get()["main"]


def run(module, *arrays):
    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    return [out.numpy() for out in machine["main"](*map(tvm.runtime.tensor, arrays))]


def test_the_symbol_is_solved_for(multiple):
    """TVM cannot do it by itself; with another length the call raises."""
    w = np.zeros(2, "float32")
    with pytest.raises(Exception, match="is not computed"):
        tvm.compile(tvm.IRModule({"main": multiple}), "llvm")
    plain = with_plain_dims(multiple)
    module = tvm.IRModule({"main": plain})
    for n in (1, 5):
        x = np.arange(2 * (3 * n + 1), dtype="float32").reshape(2, -1)
        total, zeros = run(module, x, w)
        np.testing.assert_array_equal(total, x.sum(axis=1))
        assert zeros.shape == (2, n)
    with pytest.raises(Exception, match=r"(?i)match|shape"):
        run(module, np.zeros((2, 6), "float32"), w)


def test_other_functions_stay_as_they_are(multiple):
    """Their shapes name every symbol already."""
    plain = with_plain_dims(multiple)
    assert with_plain_dims(plain).same_as(plain)
