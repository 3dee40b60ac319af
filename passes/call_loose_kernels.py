"""Make sites of kernels that a program calls by name, past all Relax functions."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar

from .module_pass import ModulePass
from .outline_runtime_callbacks import unit_function

PREFIX = "call_"
"""Of the name of the function that calls a kernel."""


@tvm.transform.module_pass(opt_level=0, name="CallLooseKernels")
class CallLooseKernels(ModulePass):
    """Add a Relax function for each public kernel that no function of the module refers to.

    An engine takes such kernels out of a module by name: those that change logits in place, for
    example. No Relax function calls them, so they had no site, and would not be tested. ::

        @T.prim_func
        def apply_logit_bias_inplace(logits: T.handle, ...): ...
        # also has, after
        @R.function
        def call_apply_logit_bias_inplace(logits: R.Tensor(ndim=2), ...):
            return cls.unit_apply_logit_bias_inplace(logits, ...)

    The unit returns the tensors that its kernel writes to. A module without such kernels is
    returned as it is. Run before ``AnnotateSites``.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        used: set[str] = set()
        for function in mod.functions.values():
            tvm_ffi.structural_walk(function, (GlobalVar, lambda g: used.add(g.name_hint)))
        loose = [
            (gvar, function)
            for gvar, function in mod.functions.items()
            if isinstance(function, tirx.PrimFunc)
            and "global_symbol" in (function.attrs or {})
            and gvar.name_hint not in used
        ]
        if not loose:
            return mod
        names = {gvar.name_hint for gvar, _ in loose}
        rest = {gvar: f for gvar, f in mod.functions.items() if gvar.name_hint not in names}
        # What was put into a module as an item of it has a variable without a type.
        builder = relax.BlockBuilder(
            tvm.IRModule(rest, attrs=mod.attrs, global_infos=mod.global_infos)
        )
        for old, kernel in loose:
            gvar = builder.add_func(kernel, old.name_hint)
            unit = unit_function(gvar, kernel)
            unit_gvar = builder.add_func(unit, f"unit_{gvar.name_hint}")
            name = f"{PREFIX}{gvar.name_hint}"
            params = [relax.Var(param.name, param.ty) for param in unit.params]
            call = relax.Call(unit_gvar, params)
            relax.expr._update_type(call, unit.ret_ty)
            result = relax.Var("result", unit.ret_ty)
            block = relax.BindingBlock([relax.VarBinding(result, call)])
            body = relax.SeqExpr([block], result)
            relax.expr._update_type(body, unit.ret_ty)
            attrs = {"global_symbol": name, "relax.force_pure": 1}
            function = relax.Function(params, body, unit.ret_ty).with_attrs(attrs)
            builder.add_func(function, name)
        return builder.get()
