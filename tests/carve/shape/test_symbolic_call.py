"""What the model allows a symbolic dimension to be, and what a kernel can bear."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tvm import tirx
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue
from relax_tapml.carve.shape._shape_plans import shape_plans
from relax_tapml.carve.shape._symbolic_call import SymbolicCall, SymbolicFunction
from relax_tapml.kernel_flow.accesses import Accesses
from relax_tapml.kernel_flow.stores import NotAnalyzableError
from relax_tapml.passes.value_leaves import bindings_in


@I.ir_module
class Dims:
    @T.prim_func(private=True, s_tir=True)
    def pairs(x: T.handle, w: T.handle, y: T.handle):
        n = T.int64()
        v = T.int64()
        X = T.match_buffer(x, (n * 2,))
        W = T.match_buffer(w, (v,))
        Y = T.match_buffer(y, (n,))
        for i in range(n):
            with T.sblock("Y"):
                vi = T.axis.spatial(n, i)
                Y[vi] = X[vi * 2] + X[vi * 2 + 1] + W[0]

    @R.function
    def main(x: R.Tensor(("n",), "float32"), w: R.Tensor(("v",), "float32")):
        R.func_attr({"tir_var_lower_bound": {"n": 4}, "tir_var_upper_bound": {"n": 40}})
        n = T.int64()
        cls = Dims
        x2 = R.match_cast(x, R.Tensor((n // 2 * 2,), "float32"))
        return R.call_tir(cls.pairs, (x2, w), out_ty=R.Tensor((n // 2,), "float32"))


FUNCTION = SymbolicFunction.of(Dims["main"])


def _call(shape=(8,), out=(4,)):
    call = list(bindings_in(Dims["main"].body))[1].value
    record = CallRecord(
        sample="",
        frame=0,
        function="main",
        call=0,
        site="main/000/pairs",
        inputs=(
            TensorValue(digest="a", dtype="float32", shape=shape),
            ParameterValue(name="w"),
        ),
        outputs=(TensorValue(digest="b", dtype="float32", shape=out),),
    )
    return call, record


def _sizes(call):
    [n] = (v for v in call.sizes if v.name == "n")
    return n


def test_variables_are_found_by_what_was_recorded():
    """And so are shapes for other values; those of weights are not changed."""
    function = Dims["main"]
    [n] = function.params[0].ty.shape.values
    assert FUNCTION.name(n) == "n (axis 0 of x)"
    assert FUNCTION.period == 2
    # A symbol that no shape names by itself cannot be solved for where there are divisions.
    with pytest.raises(NotAnalyzableError, match=r"the model declares .* where 8 was recorded"):
        SymbolicCall.of(Dims, *_call())


def test_bounds_divisions_and_casts_are_respected():
    """Below and above what the function declares, odd where it halves: not allowed."""
    [n] = Dims["main"].params[0].ty.shape.values
    allowed = [size for size in range(1, 50) if FUNCTION.allows({n: size}, {n: 8})]
    assert allowed == list(range(4, 41, 2))


@I.ir_module
class Derived:
    @R.function
    def main(x: R.Tensor(("n", "m"), "float32"), y: R.Tensor(("n", "m + 1"), "float32")):
        R.func_attr({"num_input": 2, "tir_var_upper_bound": {"m": 9}})
        return R.concat([x, y], axis=1)


def test_derived_dimensions_follow_from_their_variables():
    """``m + 1`` is never anything but one more than ``m``."""
    call = next(iter(bindings_in(Derived["main"].body))).value
    record = CallRecord(
        sample="",
        frame=0,
        function="main",
        call=0,
        site="main/000/concat",
        inputs=(
            TensorValue(digest="a", dtype="float32", shape=(3, 4)),
            TensorValue(digest="b", dtype="float32", shape=(3, 5)),
        ),
        outputs=(TensorValue(digest="c", dtype="float32", shape=(3, 9)),),
    )
    found = SymbolicCall.of(Derived, call, record)
    assert {v.name: size for v, size in found.sizes.items()} == {"n": 3, "m": 4}
    plans = shape_plans(SymbolicFunction.of(Derived["main"]), found, {})
    assert plans
    for plan in plans:
        x, y = (value.shape for value in plan.record.inputs)
        [z] = (value.shape for value in plan.record.outputs)
        assert (y[0], y[1], z) == (x[0], x[1] + 1, (x[0], 2 * x[1] + 1))
        assert 1 <= x[1] <= 9
    assert {1, 2} <= {plan.record.inputs[0].shape[0] for plan in plans}
    other = TensorValue(digest="b", dtype="float32", shape=(3, 6))
    wrong = dataclasses.replace(record, inputs=(record.inputs[0], other))
    with pytest.raises(NotAnalyzableError, match=r"declares m \+ .* where 6 was recorded"):
        SymbolicCall.of(Derived, call, wrong)


@I.ir_module
class Kernels:
    @T.prim_func(private=True, s_tir=True)
    def gather(x: T.handle, i: T.handle, y: T.handle):
        n = T.int64()
        m = T.int64()
        X = T.match_buffer(x, (n,))
        J = T.match_buffer(i, (m,), "int64")
        Y = T.match_buffer(y, (m,))
        W = T.alloc_buffer((m,), "int64")
        for k in range(m):
            with T.sblock("W"):
                vk = T.axis.spatial(m, k)
                W[vk] = T.Select(J[vk] < T.int64(0), J[vk] + n, J[vk])
        for k in range(m):
            with T.sblock("Y"):
                vk = T.axis.spatial(m, k)
                Y[vk] = X[W[vk]]

    @T.prim_func(private=True, s_tir=True)
    def shifted(x: T.handle, y: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n,))
        Y = T.match_buffer(y, (n,))
        for k in range(n):
            with T.sblock("Y"):
                vk = T.axis.spatial(n, k)
                Y[vk] = T.if_then_else(vk < T.int64(4), T.float32(0), X[vk - T.int64(4)]) + X[3]

    @T.prim_func(private=True, s_tir=True)
    def rows(x: T.handle, ends: T.handle, y: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n,))
        E = T.match_buffer(ends, (1,), "int32")
        Y = T.match_buffer(y, (1,))
        for k in range(E[0]):
            Y[0] = X[k]


def _proof(name, arrays, *sizes):
    kernel = Kernels[name]
    variables: dict[tirx.Var, None] = {}
    for param in kernel.params:
        variables.update(dict.fromkeys(e for e in param.ty.shape if isinstance(e, tirx.Var)))
    return Accesses(kernel), dict(zip(variables, sizes, strict=True)), arrays


def test_indices_from_a_tensor_are_proven_by_its_values():
    """Through an intermediate tensor, and a wrap of negative ones."""
    accesses, sizes, _ = _proof("gather", {}, 3, 2)
    assert accesses.index_limits(sizes) == {1: 3}
    assert accesses.are_within(sizes, {1: np.array([0, 2])})
    assert accesses.are_within(sizes, {1: np.array([-3, 2])})
    assert not accesses.are_within(sizes, {1: np.array([-4, 2])})
    assert not accesses.are_within(sizes, {1: np.array([0, 3])})
    assert not accesses.are_within(sizes, {})


def test_what_a_condition_guards_is_within():
    """And what nothing guards is not, for sizes that are too small."""
    for size, is_within in ((9, True), (4, True), (3, False), (1, False)):
        accesses, sizes, arrays = _proof("shifted", {}, size)
        assert accesses.are_within(sizes, arrays) is is_within


def test_a_kernel_whose_loops_end_where_a_tensor_decides_is_not_proven():
    """Its integers and its sizes belong together."""
    with pytest.raises(NotAnalyzableError, match="a tensor decides how often its loops run"):
        Accesses(Kernels["rows"])
