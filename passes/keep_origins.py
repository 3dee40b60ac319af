"""Carry the origins of operator calls through passes that make new calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
from tvm import relax
from tvm.ir import GlobalVar

from .module_pass import ModulePass
from .origin import Origin
from .site import origins_of, with_origins

Origins = Sequence[Origin]


@tvm.transform.module_pass(opt_level=0, name="KeepOrigins")
class KeepOrigins(ModulePass):
    """Run a pass and give the calls that it makes the origins of the calls that they replace.

    ``LegalizeOps`` and ``FuseTIR`` replace a call by a new one, bound to the same variable. So a
    call that has lost its origins gets the former origins of its variable. A call with a new
    variable gets the origins of the next call that has some, because it computes an operand of
    it. ::

        lv: R.Tensor((4, 8)) = R.matmul(x, w)                         # encoder.dense:mm
        # after KeepOrigins(LegalizeOps())
        lv: R.Tensor((4, 8)) = R.call_tir(cls.matmul, (x, w), ...)    # encoder.dense:mm

    A module without origins is returned as the pass leaves it.
    """

    def __init__(self, step: tvm.transform.Pass) -> None:
        self._step = step

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return give_origins(self._step(mod), _origins(mod))


def _origins(mod: tvm.IRModule) -> dict[relax.Var, Origins]:
    return {
        var: origins
        for function in mod.functions.values()
        if isinstance(function, relax.Function)
        for var, call in _bound_calls(function)
        if (origins := origins_of(call))
    }


def give_origins(mod: tvm.IRModule, origins: Mapping[relax.Var, Origins]) -> tvm.IRModule:
    """Return the module with origins at the calls that have none, as ``KeepOrigins`` does.

    Parameters
    ----------
    mod
        In normal form.
    origins
        Origins by the variable that a call is bound to.
    """
    out = mod.clone()
    for gvar, function in mod.functions.items():
        if isinstance(function, relax.Function):
            missing = _missing(function, origins)
            if missing:
                out.update_func(gvar, _Giver(mod, missing).visit_expr(function))
    return out


def _missing(
    function: relax.Function, of_variables: Mapping[relax.Var, Origins]
) -> dict[relax.Call, Origins]:
    missing: dict[relax.Call, Origins] = {}
    pending: list[relax.Call] = []
    for var, call in _bound_calls(function):
        has = origins_of(call)
        origins = has or of_variables.get(var)
        if not origins:
            pending.append(call)
            continue
        for without in pending if has else [*pending, call]:
            missing[without] = origins
        pending = []
    return missing


@tvm.transform.module_pass(opt_level=0, name="FuseOpsKeepingOrigins")
class FuseOpsKeepingOrigins(ModulePass):
    """Run ``FuseOps`` and give each call of a fused function the origins of all calls in it.

    ``FuseOps`` merges equal functions and keeps the origins of the first. So the module is fused a
    second time with a callee of its own for each call, where every function keeps its own origins.
    Both results have the same calls in the same order.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        fused = relax.transform.FuseOps()(mod)
        if not _origins(mod):
            return fused
        apart = relax.transform.FuseOps()(_with_own_callees(mod))
        found: dict[relax.Var, Origins] = {}
        for gvar in mod.functions:
            if isinstance(mod[gvar], relax.Function):
                calls, own = (_bound_calls(m[gvar.name_hint]) for m in (fused, apart))
                for (var, _), (_, call) in zip(calls, own, strict=True):
                    found[var] = _origins_inside(call, apart)
        return give_origins(fused, found)


def _with_own_callees(mod: tvm.IRModule) -> tvm.IRModule:
    out = mod.clone()
    apart = _Apart(mod)
    for gvar, function in mod.functions.items():
        if isinstance(function, relax.Function):
            out.update_func(gvar, apart.visit_expr(function))
    for own, kernel in apart.kernels.items():
        out.update_func(own, kernel)
    return out


@relax.expr_functor.mutator
class _Apart(relax.PyExprMutator):  # type: ignore[misc]
    """Gives every call of a PrimFunc a copy of the PrimFunc as its callee."""

    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self._mod = mod
        self.kernels: dict[GlobalVar, tvm.ir.BaseFunc] = {}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        callee = call.args[0] if call.args else None
        if not isinstance(callee, GlobalVar):
            return call
        own = GlobalVar(f"{callee.name_hint}_apart_{len(self.kernels)}")
        relax.expr._update_type(own, callee.ty)
        self.kernels[own] = self._mod[callee]
        args = [own, *call.args[1:]]
        changed = relax.Call(call.op, args, attrs=call.attrs, ty_args=call.ty_args, span=call.span)
        relax.expr._update_type(changed, call.ty)
        return changed


def _origins_inside(call: relax.Call, mod: tvm.IRModule) -> Origins:
    callee = mod.functions.get(call.op) if isinstance(call.op, GlobalVar) else None
    if not isinstance(callee, relax.Function) or not callee.attrs.get("Primitive"):
        return origins_of(call)
    found = [origin for _, inner in _bound_calls(callee) for origin in origins_of(inner)]
    return tuple(dict.fromkeys(found))


def _bound_calls(function: relax.Function) -> list[tuple[relax.Var, relax.Call]]:
    """Return every call with the variable it is bound to, in program order."""
    found = _Calls()
    found.visit_expr(function)
    return found.calls


@relax.expr_functor.visitor
class _Calls(relax.PyExprVisitor):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[relax.Var, relax.Call]] = []

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        if isinstance(binding.value, relax.Call):
            self.calls.append((binding.var, binding.value))
        super().visit_var_binding_(binding)


@relax.expr_functor.mutator
class _Giver(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule, missing: Mapping[relax.Call, Origins]) -> None:
        super().__init__(mod)
        self._missing = missing

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        origins = self._missing.get(call)
        call = super().visit_call_(call)
        return call if origins is None else with_origins(call, origins)
