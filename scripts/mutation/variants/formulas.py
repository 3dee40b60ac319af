"""The same formula, rounded at other places, and elementary functions from other ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tvm
from tvm import tirx

from mutation.edit import edit_all
from mutation.variants.scheduling import Made, Maker
from relax_tapml._compat import prim

Rewrite = Callable[[Any], Any]


def _rewriting(what: str, rewrite: Rewrite) -> Maker:
    """Return a maker that rewrites a formula wherever it can."""

    def make(function: tirx.PrimFunc, seed: int) -> Made:
        del seed
        count, made = edit_all(
            function, lambda node, place: rewrite(node) if place.is_value else None
        )
        if count:
            yield f"{what}, {count} times", made

    return make


def _is_float(node: Any) -> bool:
    """Return whether an expression is float32 or narrower."""
    return str(node.ty.dtype) in ("float32", "float16", "bfloat16")


def _reciprocal(node: Any) -> Any:
    if not isinstance(node, prim.Div) or not _is_float(node):
        return None
    return node.a * (tirx.const(1, str(node.ty.dtype)) / node.b)


def _fused_multiply_add(node: Any) -> Any:
    # A product of two float32 is exact in float64, so this is rounded once, as an FMA is.
    if not isinstance(node, prim.Add) or str(node.ty.dtype) != "float32":
        return None
    for product, term in ((node.b, node.a), (node.a, node.b)):
        if isinstance(product, prim.Mul):
            a, b, c = (prim.Cast("float64", x) for x in (product.a, product.b, term))
            return prim.Cast("float32", a * b + c)
    return None


def _reassociated(node: Any) -> Any:
    if type(node) not in (prim.Add, prim.Mul) or not _is_float(node):
        return None
    same = type(node)
    if isinstance(node.a, same):
        return same(node.a.a, same(node.a.b, node.b))
    return same(same(node.a, node.b.a), node.b.b) if isinstance(node.b, same) else None


def _commuted(node: Any) -> Any:
    if type(node) not in (prim.Add, prim.Mul) or not _is_float(node):
        return None
    return type(node)(node.b, node.a)


def _distributed(node: Any) -> Any:
    # a * c - b * c would cancel badly; a sum of products with one factor does not cancel more.
    if not isinstance(node, prim.Sub) or not _is_float(node):
        return None
    return node.a + (tirx.const(-1, str(node.ty.dtype)) * node.b)


def _name(node: Any) -> str:
    is_float32 = isinstance(node, tvm.ir.Call) and str(node.ty.dtype) == "float32"
    return str(getattr(node.op, "name", "")) if is_float32 else ""


def _exp_from_exp2(node: Any) -> Any:
    # What GPUs do: they have an instruction for powers of two.
    if _name(node) == "tirx.exp":
        return tirx.exp2(node.args[0] * tirx.const(math.log2(math.e), "float32"))
    return None


def _exp_from_reciprocal(node: Any) -> Any:
    if _name(node) == "tirx.exp" and isinstance(node.args[0], prim.Sub):
        difference = node.args[0]
        return tirx.const(1, "float32") / tirx.exp(difference.b - difference.a)
    return None


def _tanh(node: Any) -> Any:
    """Return the formula of the Cephes library: a polynomial near zero, exponentials elsewhere."""
    if _name(node) != "tirx.tanh":
        return None
    x = node.args[0]
    z = x * x
    series = tirx.const(0.0, "float32")
    for factor in (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
                   -3.33332819422e-1):  # fmt: skip
        series = series * z + tirx.const(factor, "float32")
    size = tirx.abs(x)
    one = tirx.const(1, "float32")
    far = one - 2 * one / (tirx.exp(2 * size) + one)
    signed = prim.Select(x < tirx.const(0, "float32"), -far, far)
    return prim.Select(size < tirx.const(0.625, "float32"), series * z * x + x, signed)


def _sigmoid(node: Any) -> Any:
    """Return ``exp(x) / (1 + exp(x))`` below zero and ``1 / (1 + exp(-x))`` above."""
    if _name(node) != "tirx.sigmoid":
        return None
    x = node.args[0]
    one = tirx.const(1, "float32")
    small = tirx.exp(-tirx.abs(x))
    numerator = prim.Select(x < tirx.const(0, "float32"), small, one)
    return numerator / (one + small)


def _root(node: Any) -> Any:
    if _name(node) == "tirx.rsqrt":
        return tirx.const(1, "float32") / tirx.sqrt(node.args[0])
    return None


def _power(node: Any) -> Any:
    if _name(node) != "tirx.pow" or not isinstance(node.args[1], tirx.FloatImm):
        return None
    x, exponent = node.args[0], float(node.args[1].value)
    if exponent == 2:
        return x * x
    return tirx.sqrt(x) if exponent == 0.5 else None


MAKERS: dict[str, Maker] = {
    "multiplied by the reciprocal": _rewriting("x / y -> x * (1 / y)", _reciprocal),
    "fused multiply-add": _rewriting("a * b + c rounded once", _fused_multiply_add),
    "reassociated": _rewriting("(a + b) + c -> a + (b + c)", _reassociated),
    "commuted": _rewriting("a + b -> b + a", _commuted),
    "negated and added": _rewriting("a - b -> a + -1 * b", _distributed),
    "exp from exp2": _rewriting("exp(x) -> exp2(x * log2(e))", _exp_from_exp2),
    "exp as a reciprocal": _rewriting("exp(a - b) -> 1 / exp(b - a)", _exp_from_reciprocal),
    "tanh from exp": _rewriting("tanh as in Cephes", _tanh),
    "sigmoid from exp": _rewriting("sigmoid without overflow", _sigmoid),
    "rsqrt as a quotient": _rewriting("rsqrt(x) -> 1 / sqrt(x)", _root),
    "power multiplied out": _rewriting("pow(x, 2) -> x * x", _power),
}
