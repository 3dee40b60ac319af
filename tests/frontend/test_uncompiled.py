# ruff: noqa: N812 - TVMScript
"""Functions that TVM refuses are found without the others."""

from __future__ import annotations

import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml import _compat
from relax_tapml.frontend._uncompiled import uncompiled_functions


@I.ir_module(check_well_formed=False)
class Module:
    @T.prim_func(private=True, s_tir=True)
    def fill(n: T.int32, y: T.Buffer((4,), "int32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = n

    @R.function
    def refused(x: R.Tensor(("n",), "int32")):
        n = T.int64()
        return R.call_tir(Module.fill, (n,), out_ty=R.Tensor((4,), "int32"))

    @R.function
    def needed(x: R.Tensor(("n",), "int32")):
        n = T.int64()
        return R.call_tir(Module.fill, (n,), out_ty=R.Tensor((4,), "int32"))

    @R.function
    def compiled(x: R.Tensor((4,), "int32")):
        return R.call_tir(Module.fill, (R.prim_value(T.int32(3)),), out_ty=R.Tensor((4,), "int32"))


@pytest.mark.skipif(_compat.IS_TVM_026, reason="TVM 0.26 converts it")
def test_a_function_that_tvm_refuses_is_named_with_the_reason():
    """The others are compiled, and what cannot be done without is not looked at."""
    found = uncompiled_functions(Module, {"needed"})
    assert set(found) == {"refused"}
    assert "int32" in found["refused"]
    with pytest.raises(Exception, match="int32"):
        tvm.compile(Module, "llvm")
