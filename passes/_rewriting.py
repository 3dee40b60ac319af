"""Parts of Relax functions with something replaced in them, which several passes need."""

from __future__ import annotations

from collections.abc import Iterable

import tvm
from tvm import relax


def packed_call(name: str, args: Iterable[relax.Expr], ty: tvm.ir.Type) -> relax.Call:
    """Return a call of a global function."""
    return relax.Call(relax.ExternFunc(name), list(args), ty_args=[ty])


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
