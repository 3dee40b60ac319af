"""Make units of the kernels that a module passes to the runtime as callbacks."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op, PrimType, TupleType

from relax_tapml._compat import SBlock, buffer_of

from .module_pass import ModulePass
from .operator_call import MAKE_CALLBACK, STORE_RESULT, UNIT_ATTR, WRITES_ATTR
from .value_leaves import bindings_in

_MAKE_CLOSURE = Op.get("relax.make_closure")
_WITH_CONTEXT = Op.get("relax.call_builtin_with_ctx")
_CALLS = {"relax.call_pure_packed", "relax.call_inplace_packed", "relax.call_dps_packed"}


@tvm.transform.module_pass(opt_level=0, name="OutlineRuntimeCallbacks")
class OutlineRuntimeCallbacks(ModulePass):
    """Put a Relax function between the runtime and each kernel that it calls back.

    A paged KV cache gets its attention kernels when it is created and calls them by itself, where
    no pass sees the call. So it gets a Relax function instead, in which the kernel is an operator
    like any other: it has a site, is captured and carved, and may run on a device. ::

        R.call_pure_packed("vm.builtin.paged_attention_kv_cache_create", ..., cls.append, ...)
        # after
        closure = R.make_closure(cls.callback_append, ())
        callback = R.call_builtin_with_ctx("relax_tapml.runtime_callback.make", (closure,))
        R.call_pure_packed("vm.builtin.paged_attention_kv_cache_create", ..., callback, ...)

        @R.function(private=True)
        def callback_append(pages: R.Tensor(ndim=5), k: R.Tensor(ndim=3), at: R.Tensor(ndim=1)):
            result = cls.unit_append(pages, k, at)      # callback_append/000/append
            R.call_packed("relax_tapml.runtime_callback.store", pages, result[0])

        @R.function(private=True)
        def unit_append(pages: R.Tensor(ndim=5), k: R.Tensor(ndim=3), at: R.Tensor(ndim=1)):
            R.func_attr({"relax_tapml.unit": "append", "relax_tapml.writes": 1})
            cls.append(pages, k, at)
            return (pages,)

    The unit returns the tensors that its kernel writes to. The store is needed where the unit runs
    on a device, which has written to copies of them. Run after fusion, before ``AnnotateSites``;
    a process that runs the module needs ``relax_tapml.passes.native.load()``. A module that passes
    no kernel to the runtime is returned as it is.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        outliner = _Outliner(mod)
        for gvar, function in mod.functions.items():
            if isinstance(function, relax.Function):
                outlined = outliner.visit_expr(function)
                if not outlined.same_as(function):
                    outliner.builder_.update_func(gvar, outlined)
        return outliner.builder_.get() if outliner.callbacks else mod


@relax.expr_functor.mutator
class _Outliner(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self._mod = mod
        self.callbacks: dict[GlobalVar, GlobalVar] = {}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        is_packed = isinstance(call.op, relax.ExternFunc)
        if not is_packed and not (isinstance(call.op, Op) and call.op.name in _CALLS):
            return super().visit_call_(call)
        first = 0 if is_packed else 1
        args = [*call.args[:first], *(self._callback(arg) for arg in call.args[first:])]
        if all(a.same_as(b) for a, b in zip(args, call.args, strict=True)):
            return super().visit_call_(call)
        changed = relax.Call(call.op, args, attrs=call.attrs, ty_args=call.ty_args, span=call.span)
        relax.expr._update_type(changed, call.ty)
        return changed

    def _callback(self, arg: relax.Expr) -> relax.Expr:
        if isinstance(arg, relax.Tuple):
            fields = [self._callback(field) for field in arg.fields]
            if all(a.same_as(b) for a, b in zip(fields, arg.fields, strict=True)):
                return arg
            return self.builder_.emit(relax.Tuple(fields))
        kernel = self._mod.functions.get(arg) if isinstance(arg, GlobalVar) else None
        if not isinstance(kernel, tirx.PrimFunc):
            return arg
        if arg not in self.callbacks:
            self.callbacks[arg] = self._add_functions(arg, kernel)
        closure = self.builder_.emit(relax.op.make_closure(self.callbacks[arg], relax.Tuple([])))
        callback = relax.op.call_builtin_with_ctx(
            relax.ExternFunc(MAKE_CALLBACK), relax.Tuple([closure]), ty_args=relax.AnyType()
        )
        return self.builder_.emit(callback)

    def _add_functions(self, gvar: GlobalVar, kernel: tirx.PrimFunc) -> GlobalVar:
        name = gvar.name_hint
        unit = unit_function(gvar, kernel)
        unit_gvar = self.builder_.add_func(unit, f"unit_{name}")

        params = _parameters(kernel)
        result = relax.Var("result", unit.ret_ty)
        call = relax.Call(unit_gvar, params)
        relax.expr._update_type(call, unit.ret_ty)
        bindings: list[relax.Binding] = [relax.VarBinding(result, call)]
        for position, index in enumerate(written_params(kernel)):
            item = relax.Var("item", unit.ret_ty.fields[position])
            bindings.append(relax.VarBinding(item, relax.TupleGetItem(result, position)))
            store = relax.Call(
                relax.ExternFunc(STORE_RESULT), [params[index], item], ty_args=[TupleType([])]
            )
            bindings.append(relax.VarBinding(relax.Var("_", TupleType([])), store))
        done = relax.Var("done", TupleType([]))
        bindings.append(relax.VarBinding(done, relax.Tuple([])))
        callback = _function(params, bindings, done, {"relax.force_pure": 1})
        return self.builder_.add_func(callback, f"callback_{name}")


def unit_function(gvar: GlobalVar, kernel: tirx.PrimFunc) -> relax.Function:
    """Return the function that is the unit of a kernel: it returns what the kernel writes to."""
    params = _parameters(kernel)
    run = relax.Var("_", TupleType([]))
    call = relax.Call(gvar, params)
    relax.expr._update_type(call, TupleType([]))
    outputs = relax.Tuple([params[index] for index in written_params(kernel)])
    result = relax.Var("result", outputs.ty)
    return _function(
        params,
        [relax.VarBinding(run, call), relax.VarBinding(result, outputs)],
        result,
        {UNIT_ATTR: gvar.name_hint, WRITES_ATTR: 1, "relax.force_pure": 1},
    )


def written_params(kernel: tirx.PrimFunc) -> list[int]:
    """Return the numbers of the parameters that a kernel may write to.

    These are the buffers it stores to, in parts of them too; all of its buffers if it stores to
    none, since it must pass them on to something that does.
    """
    buffers: set[str] = set()
    tvm_ffi.structural_walk(kernel, (tirx.BufferStore, lambda s: buffers.add(s.buffer.name)))
    sources: dict[str, str] = {}
    tvm_ffi.structural_walk(
        kernel,
        (
            SBlock,
            lambda b: sources.update(
                {m.buffer.name: buffer_of(m.source).name for m in b.match_buffers}
            ),
        ),
    )
    buffers |= {outer for inner, outer in sources.items() if inner in buffers}
    params = [n for n, param in enumerate(kernel.params) if not isinstance(param.ty, PrimType)]
    return [n for n in params if kernel.params[n].name in buffers] or params


def callback_kernels(mod: tvm.IRModule) -> dict[str, str]:
    """Return the kernel that each function between the runtime and a kernel calls, by its name."""
    found: dict[str, str] = {}
    for gvar, function in mod.functions.items():
        unit = _unit_called_back(function, mod)
        if unit is not None:
            found[gvar.name_hint] = str(unit.attrs[UNIT_ATTR])
    return found


def _unit_called_back(function: tvm.ir.BaseFunc, mod: tvm.IRModule) -> relax.Function | None:
    """Return the unit of a function that ``OutlineRuntimeCallbacks`` has made; None for others."""
    if not isinstance(function, relax.Function) or not isinstance(function.body, relax.SeqExpr):
        return None
    bindings = list(bindings_in(function.body))
    if not any(_stores_result(binding.value) for binding in bindings):
        return None
    call = bindings[0].value
    return mod[call.op] if isinstance(call, relax.Call) and call.op in mod.functions else None


def _stores_result(value: relax.Expr) -> bool:
    return (
        isinstance(value, relax.Call)
        and isinstance(value.op, relax.ExternFunc)
        and value.op.global_symbol == STORE_RESULT
    )


def _parameters(kernel: tirx.PrimFunc) -> list[relax.Var]:
    return [relax.Var(param.name, _type(param.ty)) for param in kernel.params]


def _type(ty: tvm.ir.Type) -> tvm.ir.Type:
    """Return a type without extents: they may be int32, and Relax dimensions are int64."""
    return ty if isinstance(ty, PrimType) else relax.TensorType(dtype=ty.dtype, ndim=len(ty.shape))


def _function(
    params: list[relax.Var],
    bindings: list[relax.Binding],
    result: relax.Var,
    attrs: dict[str, object],
) -> relax.Function:
    body = relax.SeqExpr([relax.BindingBlock(bindings)], result)
    relax.expr._update_type(body, result.ty)
    return relax.Function(params, body, result.ty).with_attrs(attrs)


def inline_runtime_callbacks(function: relax.Function, mod: tvm.IRModule) -> relax.Function:
    """Return a function that passes the kernels themselves to the runtime again.

    It undoes ``OutlineRuntimeCallbacks``, so that the function runs without our native library.

    Parameters
    ----------
    function
        Of a module that ``OutlineRuntimeCallbacks`` has returned. A function that passes no
        callback to the runtime is returned as it is.
    mod
        That module.
    """
    closures: dict[relax.Var, relax.Var] = {}
    callees: dict[relax.Var, relax.Expr] = {}
    for binding in bindings_in(function.body):
        value = binding.value
        if isinstance(value, relax.Call) and value.op == _MAKE_CLOSURE:
            callees[binding.var] = value.args[0]
        elif isinstance(value, relax.Call) and _makes_callback(value):
            closures[binding.var] = value.args[1].fields[0]
    kernels = {}
    for var, closure in closures.items():
        unit = mod[mod[callees[closure]].body.blocks[0].bindings[0].value.op]
        kernels[var] = mod.get_global_var(str(unit.attrs[UNIT_ATTR]))
    if not kernels:
        return function
    return _Inliner(kernels, set(closures.values())).visit_expr(function)


@relax.expr_functor.mutator
class _Inliner(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, kernels: dict[relax.Var, GlobalVar], closures: set[relax.Var]) -> None:
        super().__init__()
        self._kernels = kernels
        self._closures = closures

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        if binding.var not in self._kernels and binding.var not in self._closures:
            super().visit_var_binding_(binding)

    def visit_var_(self, var: relax.Var) -> relax.Expr:
        return self._kernels.get(var) or super().visit_var_(var)

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> relax.Expr:
        return self._kernels.get(var) or super().visit_dataflow_var_(var)


def _makes_callback(call: relax.Call) -> bool:
    return bool(call.op == _WITH_CONTEXT and call.args[0].global_symbol == MAKE_CALLBACK)
