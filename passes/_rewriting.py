"""Parts of Relax functions with something replaced in them, which several passes need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import tvm
from tvm import relax

from .operator_call import operator_functions


def packed_call(name: str, args: Iterable[relax.Expr], ty: tvm.ir.Type) -> relax.Call:
    """Return a call of a global function."""
    return relax.Call(relax.ExternFunc(name), list(args), ty_args=[ty])


def rewritten(
    mod: tvm.IRModule,
    rewrite: Callable[[tvm.IRModule, str, relax.Function], relax.Function | None],
) -> tvm.IRModule:
    """Return a module with its operator functions rewritten, without dataflow blocks and purity.

    Parameters
    ----------
    mod
        Not changed; returned as it is if no function is rewritten.
    rewrite
        Takes the module without dataflow blocks, and the name and body of one of its functions;
        None if that function stays.
    """
    flat = relax.transform.ToNonDataflow()(mod)
    updated = {}
    for gvar, function in operator_functions(flat):
        new = rewrite(flat, gvar.name_hint, function)
        if new is not None:
            updated[gvar] = new
    return relax.transform.RemovePurityChecking()(with_functions(flat, updated)) if updated else mod


def with_functions(
    mod: tvm.IRModule, updated: Mapping[tvm.ir.GlobalVar, tvm.ir.BaseFunc]
) -> tvm.IRModule:
    """Return a module with some functions replaced; the same module if there are none."""
    if not updated:
        return mod
    out = mod.clone()
    for gvar, function in updated.items():
        out.update_func(gvar, function)
    return out


def with_body(function: relax.Function, body: relax.SeqExpr) -> relax.Function:
    """Return a function with another body, whose result has the same type."""
    return relax.Function(
        function.params,
        body,
        function.ret_ty,
        is_pure=function.is_pure,
        attrs=function.attrs,
        span=function.span,
    )


def with_bindings(seq: relax.SeqExpr, bindings: Iterable[relax.Binding]) -> relax.SeqExpr:
    """Return a sequence with other bindings, in one block, and the same result."""
    new = relax.SeqExpr([relax.BindingBlock(list(bindings))], seq.body)
    relax.expr._update_type(new, seq.ty)
    return new


def with_branches(value: relax.If, true: relax.SeqExpr, false: relax.SeqExpr) -> relax.If:
    """Return a condition with other branches."""
    new = relax.If(value.cond, true, false)
    relax.expr._update_type(new, value.ty)
    return new
