"""Rewrite the expressions of a kernel whose dtypes a target lacks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from tvm import ir, tirx
from tvm_ffi import structural_walk
from tvm_ffi.structural import VisitInterrupt

from relax_tapml._compat import TensorLoad, bitwise, buffer_of, prim, prim_op

_ARITHMETIC = {prim.Add: operator.add, prim.Sub: operator.sub, prim.Mul: operator.mul}
_COMPARISONS = (prim.LT, prim.LE, prim.GT, prim.GE, prim.EQ, prim.NE)
_SHIFTS = (operator.lshift, operator.rshift)


class Retyped:
    """Makes values of dtypes that a target lacks from expressions.

    Parameters
    ----------
    kinds
        The class of the values, by dtype; of ``Words``, or of ``ByteNumber``.
    load
        Returns the value of a load whose dtype is one of them, from its buffer and its new indices;
        None for a buffer that stays.
    """

    def __init__(
        self, kinds: Mapping[str, Any], load: Callable[[Any, list[Any]], Any | None]
    ) -> None:
        self._kinds = kinds
        self._load = load

    def rules(self) -> list[tuple[Any, Callable[[Any, Any], Any]]]:
        """Return callbacks of ``structural_mutate`` for where such values end: casts, comparisons.

        Indices that depend on such values end there, too.
        """
        comparisons = [(kind, self._comparison) for kind in _COMPARISONS]
        return [(prim.Cast, self._cast), (TensorLoad, self.loaded), *comparisons]

    def value(self, expr: Any, mutator: Any) -> Any:
        """Return the value of an expression of such a dtype.

        Raises
        ------
        ValueError
            An operation of it has no form here.
        """
        kind = self._kinds[str(expr.ty)]
        if isinstance(expr, prim.IntImm):
            return kind.constant(expr.value)
        if not has_load(expr):  # Counts loops, so that it fits into 32 bits.
            return kind.of(tirx.Cast("int32", expr))
        if isinstance(expr, TensorLoad):
            found = self._load(buffer_of(expr), self.indices(expr.indices, mutator))
            if found is not None:
                return found
        if isinstance(expr, prim.Cast):
            if str(expr.value.ty) in self._kinds:
                inner = self.value(expr.value, mutator)
                return inner if type(inner) is kind else kind.of(inner.cast("int32"))
            return kind.of(mutator.mutate(expr.value))
        choice = _choice(expr)
        if choice is not None:
            choose, condition, yes, no = choice
            values = (self.value(yes, mutator), self.value(no, mutator))
            return kind.chosen(choose, mutator.mutate(condition), *values)
        if isinstance(expr, prim.Max | prim.Min):
            one, other = self.value(expr.a, mutator), self.value(expr.b, mutator)
            values = (other, one) if isinstance(expr, prim.Max) else (one, other)
            return kind.chosen(tirx.Select, one.less(other), *values)
        operation = _ARITHMETIC.get(type(expr))
        if operation is not None:
            return operation(self.value(expr.a, mutator), self.value(expr.b, mutator))
        found = bitwise(expr)
        if found is not None:
            return self._bitwise(*found, mutator)
        raise ValueError(f"no form of {_name(expr)} of {expr.ty} in 32 bits")

    def indices(self, indices: Any, mutator: Any) -> list[Any]:
        """Return indices, of which those may be such values."""
        return [self._index(index, mutator) for index in indices]

    def _bitwise(self, operation: Any, one: Any, other: Any, mutator: Any) -> Any:
        value = self.value(one, mutator)
        if operation not in _SHIFTS:
            return operation(value, self.value(other, mutator))
        if not isinstance(other, prim.IntImm):
            raise ValueError("no form of a shift by a variable in 32 bits")
        return operation(value, other.value)

    def _index(self, index: Any, mutator: Any) -> Any:
        if str(index.ty) in self._kinds and has_load(index):
            return tirx.Cast(str(index.ty), self.value(index, mutator).cast("int32"))
        return mutator.mutate(index)

    def _cast(self, node: Any, mutator: Any) -> Any:
        if str(node.value.ty) in self._kinds and has_load(node.value):
            if str(node.ty) in self._kinds:
                raise ValueError(f"a value of {node.ty} in an expression of another dtype")
            return self.value(node.value, mutator).cast(str(node.ty))
        return mutator.default_mutate(node)

    def loaded(self, node: Any, mutator: Any) -> Any:
        indices = self.indices(node.indices, mutator)
        if str(node.ty) in self._kinds and self._load(buffer_of(node), indices) is not None:
            raise ValueError(f"a value of {node.ty} in an expression of another dtype")
        if all(one.same_as(other) for one, other in zip(indices, node.indices, strict=True)):
            return node
        return buffer_of(node)[tuple(indices)]

    def _comparison(self, node: Any, mutator: Any) -> Any:
        operands = (node.a, node.b)
        if str(node.a.ty) not in self._kinds or not any(map(has_load, operands)):
            return mutator.default_mutate(node)
        one, other = (self.value(operand, mutator) for operand in operands)
        if isinstance(node, prim.LT):
            return one.less(other)
        if isinstance(node, prim.GT):
            return other.less(one)
        if isinstance(node, prim.LE):
            return tirx.Not(other.less(one))
        if isinstance(node, prim.GE):
            return tirx.Not(one.less(other))
        equal = one.equals(other)
        return equal if isinstance(node, prim.EQ) else tirx.Not(equal)


def has_load(expr: Any) -> bool:
    """Whether an expression reads a buffer."""
    return structural_walk(expr, (TensorLoad, lambda _: VisitInterrupt())) is not None


def _choice(expr: Any) -> tuple[Any, Any, Any, Any] | None:
    """Return how an expression chooses, by what, and between which; None for others."""
    if isinstance(expr, prim.Select):
        return tirx.Select, expr.condition, expr.true_value, expr.false_value
    if isinstance(expr, ir.Call) and _name(expr) == prim_op("if_then_else"):
        return tirx.if_then_else, *expr.args
    return None


def _name(expr: Any) -> str:
    return str(expr.op.name) if isinstance(expr, ir.Call) else type(expr).__name__
