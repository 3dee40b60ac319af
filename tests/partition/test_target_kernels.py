# ruff: noqa: N812 - TVMScript
"""Kernels of two targets are paired by what they are used for and by their interface."""

from __future__ import annotations

import paged_llm
import pytest
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.partition.kernel_interface import KernelInterface
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.shipped_module import shipped
from relax_tapml.partition.target_kernels import SAME, given_kernels, pair_kernels
from relax_tapml.passes.call_loose_kernels import CallLooseKernels
from relax_tapml.passes.submodule import retarget_calls


def lowered(model, module):
    return lower(mark_inputs(module, model.params))


@pytest.fixture(scope="module")
def decoder():
    """The paged decoder in float16, and it lowered."""
    model = paged_llm.model(dtype="float16")
    return model, lowered(model, model.module)


def made_for(model, target):
    return lowered(model, model.for_target(tvm.target.Target(target)))


@pytest.mark.parametrize(
    "target", [{"kind": "cuda", "arch": "sm_90"}, "webgpu"], ids=["cuda", "webgpu"]
)
def test_every_kernel_of_a_cache_has_its_counterpart(decoder, target):
    model, own = decoder
    other = made_for(model, target)
    found = pair_kernels(own, other)
    assert found.lacking == {}
    for name, kernel in found.kernels.items():
        assert KernelInterface.of(kernel).fits(KernelInterface.of(own[name]))
    same = set(given_kernels(own)) - set(found.kernels)
    for name in same:
        assert tvm_ffi.structural_equal(own[name], other[name], map_free_vars=True)
    # Attention, its merge, and what copies pages are made otherwise for every GPU.
    assert found.names["batch_decode_paged_kv_cpu"] == "batch_decode_paged_kv"
    assert found.names["merge_state_inplace_cpu"] == "tir_attention_merge_state"
    assert len(found.names) == 10


def test_functions_that_only_the_target_has_are_told(decoder):
    """They run nowhere in a run."""
    _, own = decoder
    other = own.clone()
    other[GlobalVar("sample")] = own["embed"].with_attr("global_symbol", "sample")
    assert [note.text.split(",")[1] for note in pair_kernels(own, other).notes] == [
        " the model also has sample"
    ]
    assert pair_kernels(other, own).notes == ()


def test_the_same_target_has_the_same_kernels(decoder):
    model, own = decoder
    found = pair_kernels(own, made_for(model, "llvm"))
    assert not found
    assert found.applied(own) is own


def renamed(module, names):
    """Return a module in which functions have other names, in their calls too."""
    gvars = {}
    for old, new in names.items():
        gvars[old] = GlobalVar(new)
        relax.expr._update_type(gvars[old], module.get_global_var(old).ty)
    functions = {
        gvars.get(gvar.name_hint, gvar): retarget_calls(function, gvars)
        for gvar, function in module.functions.items()
    }
    return tvm.IRModule(functions, attrs=module.attrs)


def test_names_say_nothing(decoder):
    """Two kernels of one interface that exchange their names stay in their places."""
    model, own = decoder
    rope, append = "fused_rope", "tir_kv_cache_transpose_append"
    cuda = model.for_target(tvm.target.Target("opencl"))
    prefill, decode = "batch_prefill_paged_kv", "batch_decode_paged_kv"
    other = lowered(model, renamed(cuda, {prefill: decode, decode: prefill, rope: append + "_x"}))
    found = pair_kernels(own, other)
    assert found.names["batch_prefill_paged_kv_cpu"] == decode
    assert found.names["batch_decode_paged_kv_cpu"] == prefill


def test_a_kernel_that_is_given_in_another_place_is_found_by_its_interface(decoder):
    """The only one that is left of it."""
    model, own = decoder
    module = model.for_target(tvm.target.Target("opencl"))
    copied, merged = "copy_single_page", "tir_attention_merge_state"
    both = {copied: module.get_global_var(merged), merged: module.get_global_var(copied)}
    maker = module.get_global_var("create_cache")
    module.update_func(maker, retarget_calls(module[maker], both))
    found = pair_kernels(own, lowered(model, module))
    assert found.lacking == {}
    assert found.names["copy_single_page_cpu"] == copied
    assert found.names["merge_state_inplace_cpu"] == merged


def test_a_kernel_of_another_interface_is_refused_with_both(decoder):
    model, own = decoder
    module = model.for_target(tvm.target.Target("opencl"))
    name = "fused_rope"
    kernel = module[name]
    params = [*kernel.params, tirx.Var("more", "int32")]
    wider = tirx.PrimFunc(params, kernel.body, attrs=kernel.attrs)
    module.update_func(module.get_global_var(name), wider)
    found = pair_kernels(own, lowered(model, module))
    assert set(found.lacking) == {name}
    for one in (kernel, wider):
        assert str(KernelInterface.of(one)) in found.lacking[name]


@I.ir_module
class Here:
    @T.prim_func(private=True, s_tir=True)
    def twice(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] + x[v]

    @T.prim_func(private=True, s_tir=True)
    def square(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * x[v]

    @R.function
    def main(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        cls = Here
        with R.dataflow():
            a = R.call_tir(cls.twice, (x,), out_ty=R.Tensor((4,), "float32"))
            b = R.call_tir(cls.square, (a,), out_ty=R.Tensor((4,), "float32"))
            R.output(b)
        return b


@I.ir_module
class There:
    @T.prim_func(private=True, s_tir=True)
    def doubled(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in T.thread_binding(4, thread="threadIdx.x"):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * T.float32(2)

    @T.prim_func(private=True, s_tir=True)
    def square(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * x[v]

    @R.function
    def main(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        cls = There
        with R.dataflow():
            a = R.call_tir(cls.doubled, (x,), out_ty=R.Tensor((4,), "float32"))
            b = R.call_tir(cls.square, (a,), out_ty=R.Tensor((4,), "float32"))
            R.output(b)
        return b


@I.ir_module
class Both:
    """The same two kernels, both of ``x``."""

    @T.prim_func(private=True, s_tir=True)
    def twice(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] + x[v]

    @T.prim_func(private=True, s_tir=True)
    def square(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * x[v]

    @R.function
    def main(x: R.Tensor((4,), "float32")):
        cls = Both
        with R.dataflow():
            a = R.call_tir(cls.twice, (x,), out_ty=R.Tensor((4,), "float32"))
            b = R.call_tir(cls.square, (x,), out_ty=R.Tensor((4,), "float32"))
            R.output(a, b)
        return (a, b)


def test_a_kernel_that_is_called_is_replaced_where_the_function_computes_the_same():
    found = pair_kernels(Here, There)
    assert found.names == {"twice": "doubled"}
    assert found.lacking == {}
    assert "threadIdx.x" in found.applied(Here)["twice"].script()


def test_kernels_that_compute_the_same_values_are_not_told_apart():
    """Their order alone would pair them; each stays the source's."""
    swapped = renamed(Both, {"twice": "square", "square": "twice"})
    assert pair_kernels(Both, swapped) == SAME


def loose(body):
    """Return a module with a kernel that an engine calls by name, which writes to its argument."""

    @I.ir_module
    class Module:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            R.func_attr({"num_input": 1})
            return R.add(x, x)

    module = Module.clone()
    module["bias"] = body.with_attr("global_symbol", "bias")
    return lower(mark_inputs(CallLooseKernels()(module), ()))


def test_a_kernel_that_an_engine_calls_by_name_has_its_counterpart():
    @T.prim_func(s_tir=True)
    def here(x: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("x"):
                v = T.axis.spatial(4, i)
                x[v] = x[v] + T.float32(1)

    @T.prim_func(s_tir=True)
    def there(x: T.Buffer((4,), "float32")):
        for i in T.thread_binding(4, thread="threadIdx.x"):
            with T.sblock("x"):
                v = T.axis.spatial(4, i)
                x[v] = x[v] + T.float32(1)

    found = pair_kernels(loose(here), loose(there))
    assert (found.names, found.lacking) == ({"bias": "bias"}, {})
    assert "threadIdx.x" in found.kernels["bias"].script()


def test_a_loose_kernel_that_the_target_has_otherwise_is_refused():
    """An engine there calls another one."""

    @T.prim_func(s_tir=True)
    def here(x: T.Buffer((4,), "float32"), n: T.int32):
        for i in range(4):
            with T.sblock("x"):
                v = T.axis.spatial(4, i)
                x[v] = x[v] + T.Cast("float32", n)

    @T.prim_func(s_tir=True)
    def there(x: T.Buffer((4,), "float32"), n: T.int64):
        for i in range(4):
            with T.sblock("x"):
                v = T.axis.spatial(4, i)
                x[v] = x[v] + T.Cast("float32", n)

    found = pair_kernels(loose(here), loose(there))
    assert set(found.lacking) == {"bias"}
    assert "int32" in found.lacking["bias"]


def test_one_kernel_stands_for_one_only(decoder):
    """Two that could both be meant by the only one that is left are refused."""
    model, own = decoder
    module = model.for_target(tvm.target.Target("opencl"))
    decode, window = "batch_decode_paged_kv", "batch_prefill_paged_kv_sliding_window"
    first = module.get_global_var("tir_kv_cache_debug_get_kv")
    maker = module.get_global_var("create_cache")
    lost = dict.fromkeys((decode, f"{decode}_sliding_window", window), first)
    module.update_func(maker, retarget_calls(module[maker], lost))
    found = pair_kernels(own, lowered(model, module))
    names = {"batch_decode_paged_kv_cpu", "batch_decode_paged_kv_cpu_sliding_window"}
    assert names <= set(found.lacking)


def test_the_shipped_module_gives_the_kernels_to_the_runtime_itself(decoder):
    """In the places where the target's own module gives them; it needs no native library."""
    model, own = decoder
    other = made_for(model, "opencl")
    module = shipped(pair_kernels(own, other).applied(own))
    assert pair_kernels(module, other) == SAME
    assert "relax_tapml" not in module["create_cache"].script()
