"""Functions written in another way that computes the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import ir, tirx
from tvm_ffi import structural_map

from relax_tapml._compat import prim
from relax_tapml.repair._blocks import dtype_of
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

_MOST_POWER = 8
_HALF = 0.5
# tanh is 1 there, and exp of twice this is a finite number.
_TANH_END, _TANH_END_FLOAT16 = 20.0, 5.0


class Rewrite(Alternative):
    """Replaces expressions of one kind.

    Parameters
    ----------
    name, text
        As of every alternative.
    kind
        The class of the expressions.
    rewrite
        Returns what an expression becomes; the same where it stays.
    """

    layer = Layer.CODE_GENERATION

    def __init__(self, name: str, text: str, kind: Any, rewrite: Callable[[Any], Any]) -> None:
        self.name = name
        self.text = text
        self._kind = kind
        self._rewrite = rewrite

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel rewritten, with its own schedule; None where nothing changes."""
        made = structural_map(kernel.failing, (self._kind, self._rewrite))
        return None if made.same_as(kernel.failing) else made


def _product(call: ir.Call) -> Any:
    """Return a product for a power with a small whole exponent."""
    if call.op.name != "tirx.pow":
        return call
    base, exponent = call.args
    value = getattr(exponent, "value", None)
    if value is None or value != int(value) or not 1 <= value <= _MOST_POWER:
        return call
    product = base
    for _ in range(int(value) - 1):
        product = product * base
    return product


def _root(call: ir.Call) -> Any:
    """Return a root for a power with one half; of minus infinity the power is infinite, though."""
    if call.op.name != "tirx.pow" or getattr(call.args[1], "value", None) != _HALF:
        return call
    return tirx.sqrt(call.args[0])


def _tanh(call: ir.Call) -> Any:
    """Return ``1 - 2 / (exp(2 x) + 1)`` for ``tanh(x)``, with an argument that has an end."""
    if call.op.name != "tirx.tanh":
        return call
    (x,) = call.args
    dtype = dtype_of(x)
    last = _TANH_END_FLOAT16 if dtype == "float16" else _TANH_END
    end, one, two = (tirx.const(value, dtype) for value in (last, 1.0, 2.0))
    inside = tirx.max(tirx.min(x, end), -end)
    return one - two / (tirx.exp(two * inside) + one)


def _finite(constant: Any) -> Any:
    """Return the largest number for an infinite constant."""
    if not math.isinf(constant.value):
        return constant
    dtype = dtype_of(constant)
    return tirx.max_value(dtype) if constant.value > 0 else tirx.min_value(dtype)


REWRITES = (
    Rewrite("power-as-product", "with powers written as products", ir.Call, _product),
    Rewrite("power-as-root", "with powers of one half written as roots", ir.Call, _root),
    Rewrite("tanh-by-exp", "with tanh written by exp", ir.Call, _tanh),
    Rewrite("finite-constants", "with finite constants in place of infinite ones",
            prim.FloatImm, _finite),
)  # fmt: skip
