"""Rewrites expressions of TIR to float64, with a bound on the error of rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, bitwise, buffer_of, prim, prim_op
from relax_tapml.arrays import is_float
from relax_tapml.derive._functions import (
    DIVISION_ULPS,
    FUNCTIONS,
    POWER_ULPS,
    POWER_ULPS_PER_LOGARITHM,
    STEPS,
    Function,
)
from relax_tapml.derive._partial_sums import digits, rounded_to
from relax_tapml.derive._precision import overflow, underflow, unit_roundoff
from relax_tapml.derive.bounded import (
    F64,
    Bounded,
    NotDerivableError,
    dtype_of,
    either,
    larger,
    magnitude,
    number,
    plus,
    times,
)
from relax_tapml.kernel_flow.expressions import DIVISIONS, choice_of, is_float_expr

_WORKING = "float32"
_COMPARISONS = (prim.LT, prim.LE, prim.GT, prim.GE, prim.EQ, prim.NE)


_TRANSPARENT = {prim_op("likely")}
_TINY, _LARGEST_LOGARITHM = 1e-300, 600.0
_WHOLE_CALLS = {prim_op("clz"), "tirx.popcount", "tirx.fabs"}


@dataclass(kw_only=True)
class Place:
    """The float64 values, and their errors, that replace a tensor of the kernel.

    Parameters
    ----------
    values
        The tensor to load from: float64 or float32 for floats, else the kernel's own dtype.
    errors
        Of the same shape, float; None if every value is exact.
    """

    values: Any
    errors: Any = None


@dataclass(kw_only=True)
class Expressions:
    """Rewrites the expressions of one PrimFunc.

    Parameters
    ----------
    places
        For each tensor of the kernel.
    functions
        How accurate the elementary functions are, by name.
    is_exact
        Whether a result that its dtype holds exactly shall have no error.
    bind
        Called with an expression that is used more than once; returns a variable or cell that
        holds its value. A variable or cell is returned as it is.

    Attributes
    ----------
    rounds
        Whether anything rounds. A kernel that only moves and chooses values does not.
    error_sources
        Descriptions of what the error comes from, in the order of discovery.
    """

    places: Mapping[Any, Place]
    bind: Callable[[Any], Any]
    functions: Mapping[str, Function] = field(default_factory=lambda: FUNCTIONS)
    is_exact: bool = False
    rounds: bool = False
    error_sources: dict[str, None] = field(default_factory=dict)
    variables: dict[Any, Bounded] = field(default_factory=dict)

    def of(self, expr: Any, *, guard: Any = None, is_last: bool = False) -> Bounded:
        """Rewrite an expression.

        Parameters
        ----------
        expr
            Of a kernel without blocks.
        guard
            A condition without which its loads may be out of bounds.
        is_last
            Whether the result is rounded to its dtype and then leaves the kernel. That rounding is
            not counted here.

        Raises
        ------
        NotDerivableError
            Its errors cannot be followed.
        """
        bits = bitwise(expr)
        if bits is not None:
            operation, *operands = bits
            return self._bitwise(operation, *(self._operand(part, guard) for part in operands))
        choice = choice_of(expr)
        if choice is not None:
            return self._choice(*choice, guard, is_last)
        match expr:
            case prim.FloatImm():
                return Bounded(value=number(_as_dtype(float(expr.value), dtype_of(expr))))
            case prim.IntImm():
                return Bounded(value=expr)
            case tirx.Var():
                return self._variable(expr)
            case TensorLoad():
                return self._load(expr, guard)
            case prim.Cast():
                return self._cast(expr, guard, is_last)
            case prim.Let():
                self.variables[expr.var] = self._bound(self.of(expr.value, guard=guard))
                return self.of(expr.body, guard=guard, is_last=is_last)
            case prim.Not():
                inner = self.of(expr.a, guard=guard)
                return Bounded(value=prim.Not(inner.value), error=inner.error)
            case prim.And() | prim.Or():
                return self._logical(expr, guard)
            case prim.BinaryOpExpr() | prim.CmpExpr():
                left, right = (self._operand(part, guard) for part in (expr.a, expr.b))
                if isinstance(expr, _COMPARISONS):
                    return self._comparison(type(expr), left, right)
                if not is_float_expr(expr):
                    return self._integer(expr, left, right, guard)
                return self._arithmetic(expr, left, right, is_last)
            case ir_expr.Call():
                return self._call(expr, guard, is_last)
        raise NotDerivableError(f"the kernel has a {type(expr).__name__}")

    def exact(self, expr: Any, what: str) -> Any:
        """Rewrite an expression that has the same value in every legal kernel.

        Raises
        ------
        NotDerivableError
            Rounding may change it.
        """
        found = self.of(expr)
        if found.error is not None:
            raise NotDerivableError(f"rounding may change {what}")
        return found.value

    def rounding(self, value: Any, dtype: str) -> Any:
        """Return the error of rounding a result to a dtype; infinite where a float16 overflows."""
        self.rounds = True
        error = magnitude(value) * number(unit_roundoff(dtype))
        limit = overflow(dtype)
        if limit is None:
            return error
        return prim.Select(magnitude(value) > number(limit), number(float("inf")), error)

    def _rounded(self, value: Any, dtype: str, carried: Any) -> Any:
        """Return the error of rounding the result of an addition, a product or a cast.

        Parameters
        ----------
        value
            A cell.
        dtype
            The dtype that it is rounded to.
        carried
            The error of the value itself.
        """
        error = self.rounding(value, dtype)
        if not self.is_exact:
            return error
        is_held = prim.EQ(rounded_to(value, digits(dtype)), value)
        if carried is not None:
            is_held = prim.And(is_held, prim.EQ(carried, number(0.0)))
        return prim.Select(is_held, number(0.0), error)

    def _operand(self, expr: Any, guard: Any) -> Bounded:
        found = self._bound(self.of(expr, guard=guard))
        # The error of a loaded value was settled when it was stored.
        is_settled = isinstance(expr, TensorLoad) or not is_float_expr(expr)
        return found if is_settled else self._settled(found)

    def _bound(self, found: Bounded) -> Bounded:
        value, error = found.value, found.error
        if not isinstance(value, prim.IntImm | prim.FloatImm):
            value = self.bind(value)
        return Bounded(value=value, error=None if error is None else self.bind(error))

    def _variable(self, var: Any) -> Bounded:
        bound = self.variables.get(var)
        if bound is not None:
            return bound
        if is_float_expr(var):
            return Bounded(value=prim.Cast(F64, var))
        return Bounded(value=var)

    def _load(self, load: Any, guard: Any) -> Bounded:
        place = self.places.get(buffer_of(load))
        if place is None:
            raise NotDerivableError(
                f"the kernel reads {buffer_of(load).name}, which is neither allocated in it nor a "
                "parameter"
            )
        indices = [self._index(index, guard) for index in load.indices]
        value = tirx.BufferLoad(place.values, indices)
        if is_float_expr(value) and dtype_of(value) != F64:
            value = prim.Cast(F64, value)
        if place.errors is None:
            return Bounded(value=value)
        error = tirx.BufferLoad(place.errors, indices)
        if dtype_of(error) == "float32":
            error = prim.Cast(F64, error)
        is_bool = dtype_of(value) == "bool"
        return Bounded(value=value, error=error > number(0.0) if is_bool else error)

    def _index(self, index: Any, guard: Any) -> Any:
        found = self.of(index, guard=guard)
        if found.error is not None:
            raise NotDerivableError("rounding may change which element the kernel loads")
        if guard is None or isinstance(index, prim.IntImm):
            return found.value
        return prim.Select(guard, found.value, tirx.const(0, dtype_of(index)))

    def _cast(self, expr: Any, guard: Any, is_last: bool) -> Bounded:
        to, source = dtype_of(expr), dtype_of(expr.value)
        if is_float(source) and is_float(to):
            inner = self.of(expr.value, guard=guard)
            if is_last or unit_roundoff(to) <= unit_roundoff(source):
                return inner
            inner = self._bound(inner)
            self.error_sources[f"rounding to {to}"] = None
            own = self._rounded(inner.value, to, inner.error)
            return Bounded(value=inner.value, error=plus(inner.error, own, self._tiny(to)))
        inner = self._bound(self.of(expr.value, guard=guard))
        if is_float(to):
            if source == "bool" and inner.error is not None:
                error = prim.Select(inner.error, number(1.0), number(0.0))
            else:
                error = inner.error
            if to in ("float16", "float32"):
                # All platforms round a whole number with too many digits in the same way.
                return Bounded(value=prim.Cast(F64, prim.Cast(to, inner.value)), error=error)
            value = self.bind(prim.Cast(F64, inner.value))
            if to != F64:
                error = plus(error, self._rounded(value, to, error))
            return Bounded(value=value, error=error)
        if is_float(source):
            if to == "bool":
                return self._comparison(prim.NE, inner, Bounded(value=number(0.0)))
            return self._stepped(lambda x: prim.Cast(to, x), inner, to)
        if inner.error is None:
            return Bounded(value=prim.Cast(to, inner.value))
        if source == "bool" and to != "bool":
            error = prim.Select(inner.error, number(1.0), number(0.0))
            return Bounded(value=prim.Cast(to, inner.value), error=error)
        if to == "bool":
            raise NotDerivableError("rounding may change a condition made from a whole number")
        return Bounded(value=prim.Cast(to, inner.value), error=inner.error)

    def _stepped(self, step: Callable[[Any], Any], x: Bounded, to: str) -> Bounded:
        """Apply a function that is exact and monotone, but not continuous."""
        value = step(x.value)
        if x.error is None:
            return Bounded(value=value)
        value = self.bind(value)
        ends = [step(x.value + x.error), step(x.value - x.error)]
        if not is_float(to):
            self.error_sources["ties of rounding to whole numbers"] = None
            ends, wide = [prim.Cast(F64, end) for end in ends], prim.Cast(F64, value)
        else:
            wide = value
        error = prim.Max(magnitude(ends[0] - wide), magnitude(wide - ends[1]))
        return Bounded(value=value, error=error)

    def _choice(
        self, condition: Any, true_value: Any, false_value: Any, guard: Any, is_last: bool
    ) -> Bounded:
        chosen = self._bound(self.of(condition, guard=guard))
        arms = []
        for expr, is_true in ((true_value, True), (false_value, False)):
            inner = guard
            # A condition that rounding may change does not keep loads in bounds.
            if chosen.error is None:
                held = chosen.value if is_true else prim.Not(chosen.value)
                inner = held if guard is None else prim.And(guard, held)
            arms.append(self._bound(self.of(expr, guard=inner, is_last=is_last)))
        yes, no = arms
        value = prim.Select(chosen.value, yes.value, no.value)
        if dtype_of(value) == "bool":
            return self._chosen_condition(chosen, yes, no)
        error = None
        if yes.error is not None or no.error is not None:
            zero = number(0.0)
            error = prim.Select(
                chosen.value,
                zero if yes.error is None else yes.error,
                zero if no.error is None else no.error,
            )
        if chosen.error is None:
            return Bounded(value=value, error=error)
        self.error_sources["choices that rounding may change"] = None
        a, b = (x if is_float_expr(x) else prim.Cast(F64, x) for x in (yes.value, no.value))
        apart = plus(magnitude(a - b), larger(yes.error, no.error))
        same = error if error is not None else number(0.0)
        return Bounded(value=value, error=prim.Select(chosen.error, apart, same))

    def _chosen_condition(self, chosen: Bounded, yes: Bounded, no: Bounded) -> Bounded:
        value = prim.Select(chosen.value, yes.value, no.value)
        if chosen.error is None and yes.error is None and no.error is None:
            return Bounded(value=value)
        return Bounded(value=value, error=either(chosen.error, either(yes.error, no.error)))

    def _logical(self, expr: Any, guard: Any) -> Bounded:
        left = self._bound(self.of(expr.a, guard=guard))
        inner = guard
        if left.error is None:
            # The right side is not evaluated otherwise.
            held = left.value if isinstance(expr, prim.And) else prim.Not(left.value)
            inner = held if guard is None else prim.And(guard, held)
        right = self.of(expr.b, guard=inner)
        value = type(expr)(left.value, right.value)
        return Bounded(value=value, error=either(left.error, right.error))

    def _comparison(self, kind: type, left: Bounded, right: Bounded) -> Bounded:
        value = kind(left.value, right.value)
        error = plus(left.error, right.error)
        if error is None:
            return Bounded(value=value)
        if dtype_of(left.value) == "bool":
            return Bounded(value=value, error=either(left.error, right.error))
        apart = magnitude(_wide(left.value) - _wide(right.value))
        return Bounded(value=value, error=apart < error)

    def _integer(self, expr: Any, left: Bounded, right: Bounded, guard: Any) -> Bounded:
        divisor = right.value
        if isinstance(expr, DIVISIONS) and guard is not None:
            # The shadow kernel evaluates both arms of a choice, and a division of whole numbers by
            # zero ends the process.
            divisor = prim.Select(guard, divisor, tirx.const(1, dtype_of(divisor)))
        value = type(expr)(left.value, divisor)
        if left.error is None and right.error is None:
            return Bounded(value=value)
        match expr:
            case prim.Add() | prim.Sub():
                return Bounded(value=value, error=plus(left.error, right.error))
            case prim.Mul():
                return Bounded(value=value, error=self._product_error(left, right))
            case prim.Min() | prim.Max() if dtype_of(expr) == "bool":
                return Bounded(value=value, error=either(left.error, right.error))
            case prim.Min() | prim.Max():
                return Bounded(value=value, error=larger(left.error, right.error))
        raise NotDerivableError(f"rounding may change a whole number that {_what(expr)} takes")

    def _bitwise(
        self, operation: Callable[[Any, Any], Any], left: Bounded, right: Bounded
    ) -> Bounded:
        if left.error is not None or right.error is not None:
            name = operation.__name__.strip("_")
            raise NotDerivableError(f"rounding may change a whole number that {name} takes")
        return Bounded(value=operation(left.value, right.value))

    def _arithmetic(self, expr: Any, left: Bounded, right: Bounded, is_last: bool) -> Bounded:
        dtype = dtype_of(expr)
        a, b = left.value, right.value
        is_narrow_last = is_last and unit_roundoff(dtype) > unit_roundoff(_WORKING)
        value = self.bind(type(expr)(a, b))
        match expr:
            case prim.Max() | prim.Min():
                return Bounded(value=value, error=self._extreme_error(expr, left, right))
            case prim.Add() | prim.Sub():
                carried, tiny = plus(left.error, right.error), None
            case prim.Mul():
                carried, tiny = self._product_error(left, right), self._tiny(dtype)
            case prim.Div():
                carried, tiny = self._quotient_error(value, left, right), number(underflow(dtype))
            case _:
                raise NotDerivableError(f"the kernel computes {_what(expr)} of floats")
        self.rounds = True
        if is_narrow_last:
            own = None
            if isinstance(expr, prim.Div):
                own = self.rounding(value, _WORKING) * number(2 * DIVISION_ULPS)
            return Bounded(value=value, error=plus(carried, own))
        if isinstance(expr, prim.Div):
            own = self.rounding(value, dtype) * number(2 * DIVISION_ULPS)
        else:
            own = self._rounded(value, dtype, carried)
        return Bounded(value=value, error=plus(carried, own, tiny))

    def _tiny(self, dtype: str) -> Any:
        """Return the error of a result below the normal range; exact inputs lead to none."""
        return None if self.is_exact else number(underflow(dtype))

    def _product_error(self, left: Bounded, right: Bounded) -> Any:
        return plus(
            times(magnitude(_wide(left.value)), right.error),
            times(magnitude(_wide(right.value)), left.error),
            times(left.error, right.error),
        )

    def _quotient_error(self, value: Any, left: Bounded, right: Bounded) -> Any:
        if right.error is None:
            if left.error is None:
                return None
            return prim.Select(
                prim.EQ(left.error, number(0.0)),
                number(0.0),
                left.error / magnitude(right.value),
            )
        least = self.bind(magnitude(right.value) - right.error)
        numerator = plus(left.error, times(magnitude(value), right.error))
        carried = prim.Select(least > number(0.0), numerator / least, number(float("inf")))
        total = right.error if left.error is None else right.error + left.error
        return prim.Select(prim.EQ(total, number(0.0)), number(0.0), carried)

    def _extreme_error(self, expr: Any, left: Bounded, right: Bounded) -> Any:
        if left.error is None and right.error is None:
            return None
        left, right = self._settled(left), self._settled(right)
        zero = number(0.0)
        ea = zero if left.error is None else left.error
        eb = zero if right.error is None else right.error
        a, b = left.value, right.value
        if isinstance(expr, prim.Min):
            a, b = -a, -b
        # The error is that of the operand that is chosen; the larger one if either may be.
        return prim.Select(a - ea > b + eb, ea, prim.Select(b - eb > a + ea, eb, prim.Max(ea, eb)))

    def _settled(self, x: Bounded) -> Bounded:
        """Return the same value, without an error where it is infinite: additions keep infinity."""
        if x.error is None:
            return x
        is_infinite = prim.EQ(magnitude(x.value), number(float("inf")))
        return Bounded(
            value=x.value, error=self.bind(prim.Select(is_infinite, number(0.0), x.error))
        )

    def _call(self, call: Any, guard: Any, is_last: bool) -> Bounded:
        name = str(getattr(call.op, "name", ""))

        if name in _TRANSPARENT:
            return self.of(call.args[0], guard=guard, is_last=is_last)
        if name == "tirx.tan":  # Devices compute it as a quotient, and are allowed its error.
            x = call.args[0]
            return self.of(tirx.div(tirx.sin(x), tirx.cos(x)), guard=guard, is_last=is_last)
        if name not in {*self.functions, *STEPS, *_WHOLE_CALLS, "tirx.pow", "tirx.isnan"}:
            raise NotDerivableError(f"the kernel calls {name or call.op}")
        dtype = dtype_of(call)
        if not is_float_expr(call.args[0]):
            return self._whole_call(call, name, guard)
        args = [self._settled(self._bound(self.of(arg, guard=guard))) for arg in call.args]
        if name == "tirx.fabs":
            return Bounded(value=magnitude(args[0].value), error=args[0].error)
        if name == "tirx.isnan":
            return Bounded(value=tirx.isnan(args[0].value))
        if name in STEPS:
            return self._stepped(STEPS[name], args[0], dtype)
        if name == "tirx.pow":
            return self._power(args[0], args[1], dtype)
        return self._function(name, args[0], dtype)

    def _whole_call(self, call: Any, name: str, guard: Any) -> Bounded:
        """Rewrite a call that takes and returns whole numbers."""
        if name not in _WHOLE_CALLS:
            raise NotDerivableError(f"the kernel calls {name or call.op}")
        args = [self.of(arg, guard=guard) for arg in call.args]
        if any(arg.error is not None for arg in args):
            raise NotDerivableError(f"rounding may change a whole number that {name} takes")
        return Bounded(value=ir_expr.Call(call.op, [a.value for a in args], ret_ty=dtype_of(call)))

    def _function(self, name: str, x: Bounded, dtype: str) -> Bounded:
        function = self.functions[name]
        self.rounds = True
        self.error_sources[name.split(".")[1]] = None
        value = self.bind(function.call(x.value))
        # Narrow floats are computed in float32 and rounded, or directly to within 2 ULP.
        ulp = 2 * min(unit_roundoff(dtype), unit_roundoff(_WORKING))
        is_narrow = unit_roundoff(dtype) > unit_roundoff(_WORKING)
        own = function.own_error(x.value, value, ulp, is_narrow=is_narrow)
        if is_narrow:
            own = plus(own, self.rounding(value, dtype) * number(4.0))
        carried = None
        if x.error is not None:
            carried = function.carried_error(x.value, value, x.error)
        return Bounded(value=value, error=plus(own, carried, number(underflow(dtype))))

    def _power(self, base: Bounded, exponent: Bounded, dtype: str) -> Bounded:
        self.rounds = True
        self.error_sources["pow"] = None
        value = self.bind(tirx.pow(base.value, exponent.value))
        size, y = self.bind(magnitude(base.value)), exponent.value
        ulp = 2 * min(unit_roundoff(dtype), unit_roundoff(_WORKING))
        logarithm = magnitude(y * tirx.log2(prim.Max(size, number(1e-300))))
        ulps = number(POWER_ULPS) + number(POWER_ULPS_PER_LOGARITHM) * prim.Min(
            logarithm, number(200.0)
        )
        own = magnitude(value) * ulps * number(ulp)
        if unit_roundoff(dtype) > unit_roundoff(_WORKING):
            own = plus(own, self.rounding(value, dtype) * number(4.0))
        carried = None
        if base.error is not None:
            here = self.bind(tirx.pow(size, y))
            above = tirx.pow(size + base.error, y)
            below = tirx.pow(prim.Max(size - base.error, number(0.0)), y)
            carried = prim.Max(magnitude(above - here), magnitude(here - below))
        if exponent.error is not None:
            # x**(y + e) = x**y exp(e ln x)
            natural = magnitude(tirx.log(prim.Max(size, number(_TINY))))
            factor = tirx.exp(prim.Min(natural * exponent.error, number(_LARGEST_LOGARITHM)))
            carried = plus(carried, magnitude(value) * (factor - number(1.0)))
        return Bounded(value=value, error=plus(own, carried, number(underflow(dtype))))


def _as_dtype(value: float, dtype: str) -> float:
    with np.errstate(over="ignore"):
        return float(np.asarray(value, np.dtype(dtype)).astype(np.float64))


def _wide(value: Any) -> Any:
    return value if dtype_of(value) == F64 else prim.Cast(F64, value)


def _what(expr: Any) -> str:
    return type(expr).__name__.lower()
