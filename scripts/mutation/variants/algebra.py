"""The same formula, rounded at other places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from mutation.edit import Place, edit_all
from mutation.variants.scheduling import Made, Maker
from relax_tapml._compat import prim

Rewrite = Callable[[Any, Place], Any]


def rewriting(what: str, rewrite: Rewrite) -> Maker:
    """Return a maker that rewrites a formula wherever it can."""

    def make(function: tirx.PrimFunc, seed: int) -> Made:
        del seed
        count, made = edit_all(function, lambda n, p: rewrite(n, p) if p.is_value else None)
        if count:
            yield f"{what}, {count} times", made

    return make


def is_float(node: Any) -> bool:
    """Return whether an expression is float32 or narrower."""
    return str(node.ty.dtype) in ("float32", "float16", "bfloat16")


def _reciprocal(node: Any, place: Place) -> Any:
    del place
    if not isinstance(node, prim.Div) or not is_float(node):
        return None
    return node.a * (tirx.const(1, str(node.ty.dtype)) / node.b)


def _fused_multiply_add(node: Any, place: Place) -> Any:
    # A product of two float32 is exact in float64, so this is rounded once, as an FMA is.
    del place
    if not isinstance(node, prim.Add) or str(node.ty.dtype) != "float32":
        return None
    for product, term in ((node.b, node.a), (node.a, node.b)):
        if isinstance(product, prim.Mul):
            a, b, c = (prim.Cast("float64", x) for x in (product.a, product.b, term))
            return prim.Cast("float32", a * b + c)
    return None


def _reassociated(node: Any, place: Place) -> Any:
    del place
    if type(node) not in (prim.Add, prim.Mul) or not is_float(node):
        return None
    same = type(node)
    if isinstance(node.a, same):
        return same(node.a.a, same(node.a.b, node.b))
    return same(same(node.a, node.b.a), node.b.b) if isinstance(node.b, same) else None


def _commuted(node: Any, place: Place) -> Any:
    del place
    if type(node) not in (prim.Add, prim.Mul) or not is_float(node):
        return None
    return type(node)(node.b, node.a)


def _distributed(node: Any, place: Place) -> Any:
    # a * c - b * c would cancel badly; a sum of products with one factor does not cancel more.
    del place
    if not isinstance(node, prim.Sub) or not is_float(node):
        return None
    return node.a + (tirx.const(-1, str(node.ty.dtype)) * node.b)


MAKERS: dict[str, Maker] = {
    "multiplied by the reciprocal": rewriting("x / y -> x * (1 / y)", _reciprocal),
    "fused multiply-add": rewriting("a * b + c rounded once", _fused_multiply_add),
    "reassociated": rewriting("(a + b) + c -> a + (b + c)", _reassociated),
    "commuted": rewriting("a + b -> b + a", _commuted),
    "negated and added": rewriting("a - b -> a + -1 * b", _distributed),
}
