"""Functions that only GPUs run are told from the others, and can be left out."""

from __future__ import annotations

import tvm
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.frontend._thread_bound import thread_bound_kernels, without_functions


@I.ir_module
class Module:
    @T.prim_func(private=True, s_tir=True)
    def bound(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in T.thread_binding(4, thread="threadIdx.x"):
            with T.sblock("copy"):
                vi = T.axis.spatial(4, i)
                y[vi] = x[vi]

    @T.prim_func(private=True, s_tir=True)
    def free(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("copy"):
                vi = T.axis.spatial(4, i)
                y[vi] = x[vi]

    @R.function(private=True)
    def inner(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        cls = Module
        return R.call_tir(cls.bound, (x,), out_ty=R.Tensor((4,), "float32"))

    @R.function
    def image(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        cls = Module
        y = R.call_tir(cls.free, (x,), out_ty=R.Tensor((4,), "float32"))
        return cls.inner(y)

    @R.function
    def text(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        cls = Module
        return R.call_tir(cls.free, (x,), out_ty=R.Tensor((4,), "float32"))


def test_a_function_has_the_kernels_of_those_that_it_calls():
    assert thread_bound_kernels(Module) == {"image": ["bound"]}


def test_what_only_it_calls_goes_with_it():
    left = without_functions(Module, ["image"])
    assert {gvar.name_hint for gvar in left.functions} == {"text", "free"}
    assert thread_bound_kernels(left) == {}
    tvm.ir.assert_structural_equal(left["text"], Module["text"], map_free_vars=True)


def test_nothing_is_left_out_of_the_same_module():
    assert without_functions(Module, []).same_as(Module)
