"""Elementary functions from other ones."""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import tirx

from mutation.edit import Place
from mutation.variants.algebra import rewriting
from mutation.variants.scheduling import Maker
from relax_tapml._compat import prim


def _name(node: Any) -> str:
    is_float32 = isinstance(node, tvm.ir.Call) and str(node.ty.dtype) == "float32"
    return str(getattr(node.op, "name", "")) if is_float32 else ""


def _exp_from_exp2(node: Any, place: Place) -> Any:
    # What GPUs do: they have an instruction for powers of two.
    del place
    if _name(node) == "tirx.exp":
        return tirx.exp2(node.args[0] * tirx.const(math.log2(math.e), "float32"))
    return None


def _exp_from_reciprocal(node: Any, place: Place) -> Any:
    del place
    if _name(node) == "tirx.exp" and isinstance(node.args[0], prim.Sub):
        difference = node.args[0]
        return tirx.const(1, "float32") / tirx.exp(difference.b - difference.a)
    return None


def _tanh(node: Any, place: Place) -> Any:
    """Return the formula of the Cephes library: a polynomial near zero, exponentials elsewhere."""
    del place
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


def _sigmoid(node: Any, place: Place) -> Any:
    """Return ``exp(x) / (1 + exp(x))`` below zero and ``1 / (1 + exp(-x))`` above."""
    del place
    if _name(node) != "tirx.sigmoid":
        return None
    x = node.args[0]
    one = tirx.const(1, "float32")
    small = tirx.exp(-tirx.abs(x))
    numerator = prim.Select(x < tirx.const(0, "float32"), small, one)
    return numerator / (one + small)


def _root(node: Any, place: Place) -> Any:
    del place
    if _name(node) == "tirx.rsqrt":
        return tirx.const(1, "float32") / tirx.sqrt(node.args[0])
    return None


def _power(node: Any, place: Place) -> Any:
    del place
    if _name(node) != "tirx.pow" or not isinstance(node.args[1], tirx.FloatImm):
        return None
    x, exponent = node.args[0], float(node.args[1].value)
    if exponent == 2:
        return x * x
    return tirx.sqrt(x) if exponent == 0.5 else None


MAKERS: dict[str, Maker] = {
    "exp from exp2": rewriting("exp(x) -> exp2(x * log2(e))", _exp_from_exp2),
    "exp as a reciprocal": rewriting("exp(a - b) -> 1 / exp(b - a)", _exp_from_reciprocal),
    "tanh from exp": rewriting("tanh as in Cephes", _tanh),
    "sigmoid from exp": rewriting("sigmoid without overflow", _sigmoid),
    "rsqrt as a quotient": rewriting("rsqrt(x) -> 1 / sqrt(x)", _root),
    "power multiplied out": rewriting("pow(x, 2) -> x * x", _power),
}
