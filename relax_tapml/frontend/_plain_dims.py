"""Rewrites parameters so that every symbolic dimension of their shapes is a single symbol."""

from __future__ import annotations

import tvm_ffi
from tvm import relax, tirx

from relax_tapml._compat import Analyzer

_LIMITS = ("tir_var_lower_bound", "tir_var_upper_bound")


def with_plain_dims(function: relax.Function) -> relax.Function:
    """Give a dimension of a parameter that is computed from a symbol a symbol of its own.

    A VM sets symbols from the shapes of its arguments, but does not solve ``100 * n`` for ``n``.
    PyTorch exports such a dimension, for example, for a sound whose length is a multiple of
    100. ::

        @R.function
        def main(x: R.Tensor((100 * n,))): ...
        # after
        @R.function
        def main(x: R.Tensor((x_0,))):
            x: R.Tensor((100 * (x_0 // 100),)) = R.match_cast(x, ...)   # raises for another length
            ...                                                         # with x_0 // 100 for n

    The attributes with the bounds of the symbol get the bounds of the new symbol, too. A function
    in which every symbol is a dimension by itself is returned as it is.
    """
    analyzer = Analyzer()
    plain = {dim for param in function.params for dim in _dims(param) if isinstance(dim, tirx.Var)}
    solved: dict[tirx.Var, tirx.Expr] = {}
    new: dict[relax.Var, dict[int, tirx.Var]] = {}
    attrs = function.attrs or {}
    limits = {name: dict(attrs[name]) for name in _LIMITS if name in attrs}
    for param in function.params:
        for axis, dim in enumerate(_dims(param)):
            unknown = set(tirx.analysis.undefined_vars(dim)) - plain
            if isinstance(dim, tirx.Var | tirx.IntImm) or len(unknown) != 1:
                continue
            (symbol,) = unknown
            offset = analyzer.simplify(_substituted(dim, symbol, 0))
            step = analyzer.simplify(_substituted(dim, symbol, 1) - offset)
            if not analyzer.can_prove_equal(dim, step * symbol + offset):
                continue
            own = tirx.Var(f"{param.name}_{axis}", "int64")
            new.setdefault(param, {})[axis] = own
            solved.setdefault(symbol, tirx.floordiv(own - offset, step))
            for limit in limits.values():
                if symbol.name in limit and int(step) > 0:
                    limit[own.name] = int(step) * int(limit[symbol.name]) + int(offset)
    if not solved:
        return function
    bound = tvm_ffi.structural_map(function, (tirx.Var, lambda var: solved.get(var, var)))
    params, casts = [], []
    for before, param in zip(function.params, bound.params, strict=True):
        own = new.get(before)
        if own is None:
            params.append(param)
            continue
        shape = [own.get(axis, dim) for axis, dim in enumerate(_dims(param))]
        given = relax.Var(param.name, relax.TensorType(shape, param.ty.dtype))
        params.append(given)
        casts.append(relax.MatchCast(param, given, param.ty))
    body = relax.SeqExpr([relax.BindingBlock(casts), *bound.body.blocks], bound.body.body)
    relax.expr._update_type(body, bound.body.ty)
    result = relax.Function(params, body, bound.ret_ty, bound.is_pure, bound.attrs, bound.span)
    return result.with_attrs(limits)


def _substituted(dim: tirx.Expr, symbol: tirx.Var, value: int) -> tirx.Expr:
    number = tirx.IntImm("int64", value)
    return tvm_ffi.structural_map(
        dim, (tirx.Var, lambda var: number if var.same_as(symbol) else var)
    )


def _dims(param: relax.Var) -> list[tirx.Expr]:
    shape = getattr(param.ty, "shape", None)
    return list(shape.values) if isinstance(shape, relax.ShapeExpr) else []
