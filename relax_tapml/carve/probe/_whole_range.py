"""Whether the whole numbers of a PrimFunc fit their dtypes, for inputs within given ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, bitwise, buffer_of, prim, prim_op
from relax_tapml.kernel_flow.expressions import choice_of, is_float_expr, nodes
from relax_tapml.kernel_flow.interval import Interval

_KNOWN_CALLS = {prim_op("likely"), "tirx.fabs", prim_op("clz"), "tirx.popcount"}
_ARITHMETIC = (prim.Add, prim.Sub, prim.Mul)


class OverflowsError(Exception):
    """A whole number may leave the range of its dtype, or is not followed."""


def fits(
    function: tirx.PrimFunc,
    ranges: Mapping[tirx.Var, Interval],
    fixed: Mapping[tirx.Var, Interval],
) -> bool:
    """Return whether no whole number of a PrimFunc leaves the range of its dtype.

    Signed arithmetic that does means nothing, so no kernel can be judged by it. Only what is
    proved counts.

    Parameters
    ----------
    function
        Of loops and stores, see ``plain_kernel``.
    ranges
        Of the values of its inputs of whole numbers.
    fixed
        Values of symbolic dimensions and integer parameters.
    """
    try:
        _Ranges(function, ranges, fixed)
    except OverflowsError:
        return False
    return True


class _Ranges:
    def __init__(
        self,
        function: tirx.PrimFunc,
        ranges: Mapping[tirx.Var, Interval],
        fixed: Mapping[tirx.Var, Interval],
    ) -> None:
        self._tensors = dict(ranges)
        self._variables = dict(fixed)
        for loop in nodes(function.body, tirx.For):
            start, extent = self._range(loop.min), self._range(loop.extent)
            self._variables[loop.loop_var] = Interval(start.low, start.high + extent.high)
        stores = nodes(function.body, tirx.BufferStore)
        for bind in nodes(function.body, tirx.Bind):
            if not is_float_expr(bind.value):
                raise OverflowsError("it binds whole numbers")
        for store in stores:
            self._store(store)
        known = dict(self._tensors)
        for store in stores:
            self._store(store)
        if known != self._tensors:
            raise OverflowsError("it sums up whole numbers")

    def _store(self, store: Any) -> None:
        for expr in (*store.indices, store.value):
            found = self._range(expr)
        if not is_float_expr(store.value):
            before = self._tensors.get(store.buffer)
            self._tensors[store.buffer] = found if before is None else _both(before, found)

    def _range(self, expr: Any) -> Interval:
        """Return the range of an expression; of floats anything, once their parts are known."""
        found = self._inner(expr)
        dtype = str(expr.ty.dtype)
        if is_float_expr(expr):
            return found
        limits = _limits(dtype)
        if found.low >= limits.low and found.high <= limits.high:
            return found
        if dtype.startswith("uint"):
            return limits  # It wraps around, everywhere alike.
        raise OverflowsError(f"{dtype} does not hold {found}")

    def _inner(self, expr: Any) -> Interval:
        choice = choice_of(expr)
        if choice is not None:
            _, one, other = map(self._range, choice)
            return _both(one, other)
        match expr:
            case prim.IntImm():
                return Interval(int(expr.value), int(expr.value))
            case prim.FloatImm():
                return Interval(0, 0)
            case TensorLoad():
                for index in expr.indices:
                    self._range(index)
                if is_float_expr(expr):
                    return Interval(0, 0)
                return self._known(self._tensors, buffer_of(expr))
            case tirx.Var():
                return self._known(self._variables, expr)
            case prim.Cast():
                inner = self._range(expr.value)
                if is_float_expr(expr.value) and not is_float_expr(expr):
                    raise OverflowsError("it makes whole numbers of floats")
                return inner
        if isinstance(expr, ir_expr.Call) and bitwise(expr) is None:
            return self._call(expr)
        return self._operation(expr)

    def _call(self, call: Any) -> Interval:
        for part in call.args:
            self._range(part)
        if is_float_expr(call):
            return Interval(0, 0)
        if getattr(call.op, "name", "") not in _KNOWN_CALLS:
            raise OverflowsError("it calls what is not followed")
        return _limits(str(call.ty.dtype))

    def _operation(self, expr: Any) -> Interval:
        bits = bitwise(expr)
        if bits is not None:
            operands = list(bits[1:])
        else:
            operands = [expr.a] if isinstance(expr, prim.Not) else [expr.a, expr.b]
        parts = [self._range(part) for part in operands]
        if bits is not None and bits[0].__name__ in ("lshift", "rshift"):
            width = _limits(str(expr.ty.dtype)).high.bit_length()
            if parts[1].low < 0 or parts[1].high >= width:
                raise OverflowsError("it shifts by more than there are bits")
        if is_float_expr(expr):
            return Interval(0, 0)
        if not isinstance(expr, _ARITHMETIC):
            return _limits(str(expr.ty.dtype))
        left, right = parts
        if isinstance(expr, prim.Add):
            return Interval(left.low + right.low, left.high + right.high)
        if isinstance(expr, prim.Sub):
            return Interval(left.low - right.high, left.high - right.low)
        corners = [x * y for x in (left.low, left.high) for y in (right.low, right.high)]
        return Interval(min(corners), max(corners))

    def _known(self, ranges: Mapping[Any, Interval], key: Any) -> Interval:
        if key not in ranges:
            raise OverflowsError(f"nothing is known of {key}")
        return ranges[key]


def _both(one: Interval, other: Interval) -> Interval:
    return Interval(min(one.low, other.low), max(one.high, other.high))


def _limits(dtype: str) -> Interval:
    if dtype == "bool":
        return Interval(0, 1)
    digits = dtype.removeprefix("u").removeprefix("int")
    if not digits.isdigit():
        raise OverflowsError(f"{dtype} is not followed")
    bits = int(digits)
    if dtype.startswith("u"):
        return Interval(0, 2**bits - 1)
    return Interval(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
