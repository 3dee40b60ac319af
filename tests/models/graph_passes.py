"""Passes of a device that change the Relax functions of ``tiny_model``, and not only its kernels.

The model of two functions is for those that change one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import broken_pipelines
import numpy as np
import tvm
import tvm_ffi
from broken_pipelines import breaks
from tvm import relax, tirx
from tvm.ir import GlobalVar
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.arrays import Array
from relax_tapml.frontend.model import Functions, Model, Sample

transform = relax.transform


def changes_calls(
    name: str, unit: str, change: Callable[[relax.Call], relax.Expr], functions: tuple[str, ...]
) -> tvm.transform.Pass:
    """Return a pass that replaces each call of a unit in some functions."""

    @tvm.transform.module_pass(opt_level=0, name=name)
    def run(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        @relax.expr_functor.mutator
        class Changer(relax.PyExprMutator):
            def visit_call_(self, call: relax.Call) -> relax.Expr:
                call = super().visit_call_(call)
                is_tir = call.op == tvm.ir.Op.get("relax.call_tir")
                return change(call) if is_tir and call.args[0].name_hint == unit else call

        out = module.clone()
        for function in functions:
            # Raises where there is no such function, as passes do that expect a model.
            gvar = module.get_global_var(function)
            out.update_func(gvar, Changer(module).visit_expr(module[gvar]))
        return out

    return run


def _with(call: relax.Call, operands: list[relax.Expr]) -> relax.Call:
    return relax.Call(call.op, [call.args[0], relax.Tuple(operands)], call.attrs, call.ty_args)


def _swapped(call: relax.Call) -> relax.Call:
    return _with(call, list(reversed(call.args[1].fields)))


skip_softmax = changes_calls("SkipSoftmax", "softmax", lambda c: c.args[1][0], ("main",))
high_level = changes_calls(
    "HighLevel", "softmax", lambda c: relax.op.nn.softmax(c.args[1][0]), ("main",)
)
in_place = tvm.transform.Sequential([high_level, transform.DataflowUseInplaceCalls()])
lowers = tvm.transform.Sequential(
    [transform.ToNonDataflow(), transform.RemovePurityChecking(), transform.CallTIRRewrite()]
)


def _unfinished(call: relax.Call) -> relax.Call:
    return relax.op.call_dps_packed("no.such.function", call.args[1], call.ty)


@tvm.transform.module_pass(opt_level=0, name="Finishes")
def _finishes(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    @relax.expr_functor.mutator
    class Changer(relax.PyExprMutator):
        def visit_call_(self, call: relax.Call) -> relax.Expr:
            call = super().visit_call_(call)
            is_packed = call.op == tvm.ir.Op.get("relax.call_dps_packed")
            return relax.op.nn.softmax(call.args[1][0], axis=0) if is_packed else call

    out = module.clone()
    caller = module.get_global_var("main")
    out.update_func(caller, Changer(module).visit_expr(module[caller]))
    return out


wrong_in_two_halves = tvm.transform.Sequential(
    [
        transform.ToNonDataflow(),
        changes_calls("Begins", "softmax", _unfinished, ("main",)),
        _finishes,
    ]
)
raises_within = tvm.transform.Sequential([transform.ToNonDataflow(), broken_pipelines.raises])
wrong_in_the_middle = tvm.transform.Sequential(
    [
        transform.ToNonDataflow(),
        tvm.transform.Sequential([transform.CanonicalizeBindings(), skip_softmax]),
        breaks("layer_norm", broken_pipelines.scale),
        transform.DeadCodeElimination(),
    ]
)
kernel_and_graph = tvm.transform.Sequential(
    [breaks("layer_norm", broken_pipelines.scale), transform.ToNonDataflow()]
)


def renames(name: str, fault: Callable[[Any], Any] = lambda kernel: kernel) -> tvm.transform.Pass:
    """Return a pass that calls ``softmax`` by another name, with a fault in it or without."""

    @tvm.transform.module_pass(opt_level=0, name=name)
    def run(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        out = module.clone()
        old = module.get_global_var("softmax")
        new = GlobalVar("softmax_v2")
        relax.expr._update_type(new, old.ty)
        del out[old]
        out.update_func(new, fault(module[old]))
        caller = module.get_global_var("main")
        change = (GlobalVar, lambda gvar: new if gvar.same_as(old) else gvar)
        out.update_func(caller, tvm_ffi.structural_map(module[caller], change))
        return out

    return run


@tvm.transform.module_pass(opt_level=0, name="OtherOrder")
def other_order(module: tvm.IRModule, ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Give the operands of ``matmul`` the other way round, to a kernel that takes them so."""
    out = changes_calls("Swap", "matmul", _swapped, ("main",))(module)
    gvar = module.get_global_var("matmul")
    kernel = module[gvar]
    first, second, *others = kernel.params
    changed = tirx.PrimFunc(
        [second, first, *others], kernel.body, kernel.ret_type, attrs=kernel.attrs
    )
    new = GlobalVar("matmul")
    relax.expr._update_type(new, changed.ty)
    caller = module.get_global_var("main")
    change = (GlobalVar, lambda other: new if other.same_as(gvar) else other)
    main = tvm_ffi.structural_map(out[caller], change)
    del out[gvar]
    out.update_func(new, changed)
    out.update_func(caller, main)
    return out


@tvm.transform.module_pass(opt_level=0, name="TakesHalf")
def takes_half(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Let ``main`` take its input in float16."""
    out = module.clone()
    gvar = module.get_global_var("main")
    main = module[gvar]
    half = relax.Var("x", relax.TensorType([4, 8], "float16"))
    params = [half, *main.params[1:]]
    out.update_func(gvar, relax.Function(params, main.body, main.ret_ty, attrs=main.attrs))
    return out


@tvm.transform.module_pass(opt_level=0, name="DropsMain")
def drops_main(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Return a module without the function that is to be run."""
    out = module.clone()
    del out[module.get_global_var("main")]
    return out


@I.ir_module
class Alike:
    """Two kernels of one type."""

    @R.function
    def main(x: R.Tensor((4, 8), "float32")):
        with R.dataflow():
            s = R.nn.softmax(x)
            t = R.nn.log_softmax(s)
            R.output(t)
        return t


def alike() -> Model:
    """The module with one sample."""
    x = np.random.default_rng(2).standard_normal((4, 8)).astype("float32")
    return Model(name="alike", module=Alike, params={}, samples=(Sample(name="only", arrays=(x,)),))


@tvm.transform.module_pass(opt_level=0, name="OneForOther")
def one_for_other(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Call ``softmax`` where ``log_softmax`` is called."""
    softmax = module.get_global_var("softmax")

    def change(call: relax.Call) -> relax.Call:
        return relax.Call(call.op, [softmax, *call.args[1:]], call.attrs, call.ty_args)

    return changes_calls("", "log_softmax", change, ("main",))(module)


@T.prim_func(private=True, s_tir=True)
def add_one(x: T.Buffer((4, 8), "float32")):
    """Change nothing that softmax gives."""
    for i, j in T.grid(4, 8):
        with T.sblock("x"):
            row, column = T.axis.remap("SS", [i, j])
            x[row, column] = x[row, column] + T.float32(1)


@tvm.transform.module_pass(opt_level=0, name="OverInput")
def over_input(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Add one to the model's input, in its own memory, before ``softmax`` takes it away again."""
    out = module.clone()
    kernel = GlobalVar("add_one")
    relax.expr._update_type(kernel, add_one.ty)
    out.update_func(kernel, add_one)

    def change(call: relax.Call) -> relax.Call:
        (x,) = call.args[1].fields
        written = relax.op.call_tir_inplace(kernel, [x], [0], x.ty)
        return relax.op.call_tir(call.args[0], [written], call.ty)

    return changes_calls("", "softmax", change, ("main",))(out)


@I.ir_module
class Two:
    """Two functions that call the same units."""

    @R.function
    def first(x: R.Tensor((4, 4), "float32"), y: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            h = R.matmul(x, y)
            s = R.nn.softmax(h)
            R.output(s)
        return s

    @R.function
    def second(x: R.Tensor((4, 4), "float32"), y: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            h = R.matmul(x, y)
            s = R.sum(h, axis=[1])
            R.output(s)
        return s


swap_in_both = changes_calls("SwapInBoth", "matmul", _swapped, ("first", "second"))
swap_in_second = changes_calls("SwapInSecond", "matmul", _swapped, ("second",))


@tvm.transform.module_pass(opt_level=0, name="OneOfTwo")
def one_of_two(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Change both functions, one of them so that it is wrong."""
    return swap_in_second(transform.ToNonDataflow()(module))


def two_functions() -> Model:
    """The module with a drive that calls both."""
    rng = np.random.default_rng(1)

    def drive(functions: Functions, sample: Sample) -> list[Array]:
        x, y = sample.arrays
        return [*functions["first"](x, y), *functions["second"](x, y)]

    arrays = tuple(rng.standard_normal((4, 4)).astype("float32") for _ in range(2))
    return Model(
        name="two",
        module=Two,
        params={},
        samples=(Sample(name="only", arrays=arrays),),
        entry="first",
        drive=drive,
    )
