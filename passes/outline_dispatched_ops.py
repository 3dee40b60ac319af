"""Make a unit of every operator that each target lowers in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, count

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import PrimType

from .module_pass import ModulePass
from .operator_call import (
    UNIT_ATTR,
    CallKind,
    has_run_time_shape,
    leaf_types,
    operator_call,
    operator_functions,
)


@tvm.transform.module_pass(opt_level=0, name="OutlineDispatchedOps")
class OutlineDispatchedOps(ModulePass):
    """Move each remaining high-level operator call into a private Relax function of its own.

    The operators that remain after ``LegalizeOps`` (scan, sort, sampling) get their kernels from
    target-specific dispatch. With a function call in their place, both sides have the same unit,
    and each side lowers the body in its own way. Equal calls share one function.

    Precondition: ``LegalizeOps`` has run; local functions were lifted (``LambdaLift``). ::

        lv = R.cumsum(x, axis=1)
        # after
        lv = cls.unit_cumsum(x)

        @R.function(private=True)
        def unit_cumsum(x: R.Tensor((4, 8), "float32")) -> R.Tensor((4, 8), "float32"):
            R.func_attr({"relax_tapml.unit": "cumsum"})
            return R.cumsum(x, axis=1)

    Constants and shapes stay inside the function; tensors and tuples of tensors become its
    parameters. Symbolic dimensions that none of them defines (``n`` of a tensor of ``2 * n`` rows)
    are passed as one shape, the last argument. An operator on tensors whose shape is a run-time
    value, such as ``reshape`` to a computed shape, stays where it is. Applied twice, or where
    nothing is left to outline, it returns the same module.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        outliner = _Outliner(mod)
        for gvar, function in operator_functions(mod):
            outlined = outliner.visit_expr(function)
            if not outlined.same_as(function):
                outliner.builder_.update_func(gvar, outlined)
        return outliner.builder_.get() if outliner.count else mod


@relax.expr_functor.mutator
class _Outliner(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self._mod = mod
        self._taken = {gvar.name_hint for gvar in mod.functions}
        self._outlined: list[tuple[relax.Function, tvm.ir.GlobalVar]] = []
        self.count = 0

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        found = operator_call(call, self._mod)
        if found is None or found.kind is not CallKind.OPERATOR:
            return call
        types = leaf_types(call.ty)
        if not any(isinstance(ty, relax.TensorType) for ty in types):
            return call
        if any(map(has_run_time_shape, (*types, *_types(found.args)))):
            return call
        self.count += 1
        function, args = _wrap(call)
        outlined = relax.Call(self._unit_function(function, found.unit.replace(".", "_")), args)
        relax.expr._update_type(outlined, call.ty)
        return outlined

    def _unit_function(self, function: relax.Function, base: str) -> tvm.ir.GlobalVar:
        for other, gvar in self._outlined:
            if tvm_ffi.structural_equal(other, function):
                return gvar
        names = chain([base], (f"{base}{i}" for i in count(1)))
        unit = next(name for name in names if name not in self._taken)
        self._taken.add(unit)
        gvar = self.builder_.add_func(function.with_attr(UNIT_ATTR, unit), f"unit_{unit}")
        self._outlined.append((function, gvar))
        return gvar


def _types(args: Iterable[relax.Expr]) -> Iterator[tvm.ir.Type]:
    return chain.from_iterable(leaf_types(arg.ty) for arg in args)


def _wrap(call: relax.Call) -> tuple[relax.Function, list[relax.Expr]]:
    params: list[relax.Var] = []
    passed: list[relax.Expr] = []

    def inside(arg: relax.Expr) -> relax.Expr:
        if isinstance(arg, relax.Tuple):
            return relax.Tuple([inside(field) for field in arg.fields])
        if not isinstance(arg, relax.Var) or isinstance(arg.ty, PrimType):
            return arg
        passed.append(arg)
        params.append(relax.Var(arg.name, arg.ty))
        return params[-1]

    result = relax.Var("result", call.ty)
    args = [inside(arg) for arg in call.args]
    value = relax.Call(call.op, args, attrs=call.attrs, ty_args=call.ty_args)
    relax.expr._update_type(value, call.ty)
    body = relax.SeqExpr([relax.BindingBlock([relax.VarBinding(result, value)])], result)
    function = relax.Function(params, body, call.ty)
    dims = list(relax.analysis.free_symbolic_vars(function))
    if dims:
        passed.append(relax.ShapeExpr(dims))
        params.append(relax.Var("shape", relax.ShapeType(dims)))
        function = relax.Function(params, body, call.ty)
    return relax.utils.copy_with_new_vars(function), passed
