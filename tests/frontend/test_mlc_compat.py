"""TVM takes what MLC-LLM gives it, within the block only."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tvm
from tvm import ir, relax, tirx, topi
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm import position_embedding
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.frontend.mlc_compat import tvm_for_mlc

OWNERS = (relax, tirx, topi, nn, nn.op, ir.Var, tirx.PrimFunc, position_embedding, T)


def names():
    return [dict(vars(owner)) for owner in OWNERS]


def test_tvm_is_as_before_after_the_block_whatever_happens():
    before = names()
    with pytest.raises(ZeroDivisionError), tvm_for_mlc(), tvm_for_mlc():
        _ = 1 / 0
    assert names() == before


@T.prim_func(private=True, s_tir=True)
def _ends(cumsum: T.handle, ends: T.handle, count: T.int64):
    """A kernel as MLC writes it: the scalar is last, and a dimension of the first buffer."""
    given = T.match_buffer(cumsum, (count * 4,), "int32")
    taken = T.match_buffer(ends, (4,), "int32")
    for i in range(4):
        with T.sblock("ends"):
            vi = T.axis.spatial(4, i)
            taken[vi] = given[(vi + 1) * count - 1]


class Ends(nn.Module):
    def forward(self, cumsum: nn.Tensor, one: nn.Tensor):
        out = nn.Tensor.placeholder([4], "int32")
        return nn.op.tensor_ir_op(_ends, "ends", [cumsum, one.shape[0]], out)


def exported(model, **inputs):
    method = {"$": {"param_mode": "none", "effect_mode": "none"}}
    named = {name: nn.spec.Tensor(shape, "int32") for name, shape in inputs.items()}
    return model.export_tvm({"forward": {**named, **method}})[0]


def test_a_scalar_after_all_buffers_is_passed_before_them():
    """The call is well-formed, and of a kernel that has the same body."""
    with tvm_for_mlc():
        module = exported(Ends(), cumsum=["total"], one=["n"])
    kernel = module["ends"]
    assert [param.name for param in kernel.params] == ["count", "given", "taken"]
    tvm.ir.assert_structural_equal(kernel.body, _ends.body, map_free_vars=True)


@T.prim_func(private=True, s_tir=True)
def _filled(filled: T.handle, value: T.int32):
    """A kernel of MLC's sampler: a dimension as a number of 32 bits."""
    result = T.match_buffer(filled, (4,), "int32")
    for i in range(4):
        with T.sblock("filled"):
            vi = T.axis.spatial(4, i)
            result[vi] = value * 2


class Filled(nn.Module):
    def forward(self, x: nn.Tensor):
        out = nn.Tensor.placeholder([4], "int32")
        return nn.op.tensor_ir_op(_filled, "filled", [x.shape[0]], out)


def test_a_dimension_may_be_a_number_of_32_bits():
    """TVM refuses the call otherwise."""
    with tvm_for_mlc():
        module = exported(Filled(), x=["n"])
    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    found = machine["forward"](tvm.runtime.tensor(np.zeros(5, "int32")))
    assert found.numpy().tolist() == [10] * 4


def test_kernels_in_order_and_other_functions_are_not_changed():
    class Doubled(nn.Module):
        def forward(self, x: nn.Tensor):
            return nn.op.tensor_ir_op(double, "double", [x], nn.Tensor.placeholder([4], "int32"))

    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((4,), "int32"), y: T.Buffer((4,), "int32")):
        for i in range(4):
            with T.sblock("double"):
                vi = T.axis.spatial(4, i)
                y[vi] = x[vi] * 2

    plain = exported(Doubled(), x=[4])
    with tvm_for_mlc():
        same = exported(Doubled(), x=[4])
    tvm.ir.assert_structural_equal(same, plain)


def test_names_of_other_releases_mean_what_they_did():
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    with tvm_for_mlc():
        assert x.name_hint == "x"
        assert list(_ends.buffer_map.values()) == [*_ends.params][:2]
        dtype = relax.DataTypeImm("float16")
        assert isinstance(dtype, relax.DataTypeImm)
        assert str(dtype.value) == "float16"
        assert not isinstance(relax.StringImm("float16"), relax.DataTypeImm)
        constant = relax.const([1.0, 2.0], "float32")
        assert isinstance(constant, relax.Constant)
        assert constant.data.numpy().tolist() == [1.0, 2.0]
        assert hasattr(tirx, "SBlockRealize")


def test_infinity_fills_a_tensor_of_half_precision():
    with tvm_for_mlc():
        filled = topi.full((2,), ir.PrimType("float16"), -math.inf)
    assert str(filled.dtype) == "float16"


def test_yarn_knows_its_base():
    """As with the value that TVM wants to be given."""
    scaling = {
        "rope_type": "yarn",
        "factor": 4.0,
        "beta_fast": 32,
        "beta_slow": 1,
        "original_max_position_embeddings": 64,
    }
    s, d = tirx.Var("s", "float32"), tirx.Var("d", "int32")
    given = {**scaling, "inv_theta_log_scale": 1 / (2 * math.log(10000.0))}
    with tvm_for_mlc():
        parts = [
            position_embedding.switch_rope_freq_func(item)(s, d, 16, 10000.0, "float32")
            for item in (scaling, given)
        ]
    ours, theirs = (next(iter(variables.values())) for _, _, variables in parts)
    tvm.ir.assert_structural_equal(ours, theirs, map_free_vars=True)


def test_regions_in_a_branch_are_left_out():
    with tvm_for_mlc():

        @T.prim_func(private=True, s_tir=True)
        def crop(x: T.Buffer((4,), "int32"), y: T.Buffer((4,), "int32")):
            for i in range(4):
                with T.sblock("crop"):
                    vi = T.axis.spatial(4, i)
                    if vi < 2:
                        T.writes(y[vi])
                        y[vi] = x[vi]

    assert "T.writes" in str(crop.script())
