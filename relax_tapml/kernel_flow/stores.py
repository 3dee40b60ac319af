"""Every store of a PrimFunc, with the loops, blocks and conditions it is under."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import SBlockRealize, prim


class NotAnalyzableError(Exception):
    """A PrimFunc does something that is not followed, which the message names."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """One ``BufferStore``.

    Parameters
    ----------
    buffer, indices, value
        What is stored where.
    ranges
        Variable, first value and number of values, from the outermost in: of loops, and of the
        iteration variables of blocks.
    bindings
        Variables that stand for an expression.
    conditions
        All must hold for the store to run.
    """

    buffer: tirx.Var
    indices: tuple[ir_expr.Expr, ...]
    value: ir_expr.Expr
    ranges: tuple[tuple[tirx.Var, ir_expr.Expr, ir_expr.Expr], ...]
    bindings: tuple[tuple[tirx.Var, ir_expr.Expr], ...]
    conditions: tuple[ir_expr.Expr, ...]


@dataclass(frozen=True, kw_only=True)
class _Scope:
    ranges: tuple[Any, ...] = ()
    bindings: tuple[Any, ...] = ()
    conditions: tuple[Any, ...] = ()


def stores_of(function: tirx.PrimFunc) -> dict[tirx.Var, tuple[Store, ...]]:
    """Return the stores of a PrimFunc by buffer, in program order.

    Raises
    ------
    NotAnalyzableError
        It has a statement that may write or jump in another way: a call for its effect, a buffer
        that is part of another, a ``while``.
    """
    found: dict[tirx.Var, list[Store]] = {}
    _visit(function.body, _Scope(), found)
    return {buffer: tuple(stores) for buffer, stores in found.items()}


def _visit(statement: Any, scope: _Scope, found: dict[tirx.Var, list[Store]]) -> None:
    match statement:
        case tirx.SeqStmt():
            for part in statement.seq:
                if isinstance(part, tirx.Bind):
                    # It holds for the statements after it.
                    bindings = (*scope.bindings, (part.var, part.value))
                    scope = replace(scope, bindings=bindings)
                else:
                    _visit(part, scope, found)
        case tirx.For():
            loop = (statement.loop_var, statement.min, statement.extent)
            _visit(statement.body, replace(scope, ranges=(*scope.ranges, loop)), found)
        case SBlockRealize():
            _visit_block(statement, scope, found)
        case tirx.IfThenElse():
            condition = statement.condition
            held = replace(scope, conditions=(*scope.conditions, condition))
            _visit(statement.then_case, held, found)
            if statement.else_case is not None:
                negated = prim.Not(condition)
                other = replace(scope, conditions=(*scope.conditions, negated))
                _visit(statement.else_case, other, found)
        case tirx.BufferStore():
            store = Store(
                buffer=statement.buffer,
                indices=tuple(statement.indices),
                value=statement.value,
                ranges=scope.ranges,
                bindings=scope.bindings,
                conditions=scope.conditions,
            )
            found.setdefault(statement.buffer, []).append(store)
        case tirx.AllocBuffer():
            pass
        case tirx.Evaluate() if isinstance(statement.value, tirx.IntImm):
            pass
        case _:
            raise NotAnalyzableError(f"it has a {type(statement).__name__}")


def _visit_block(realize: Any, scope: _Scope, found: dict[tirx.Var, list[Store]]) -> None:
    block = realize.block
    if block.match_buffers:
        raise NotAnalyzableError("it has a buffer that is part of another")
    ranges = [(item.var, item.dom.min, item.dom.extent) for item in block.iter_vars]
    # The bindings of the iteration variables to loops do not matter: together they take every
    # value of their ranges, but for those that the predicate excludes.
    inner = replace(scope, ranges=(*scope.ranges, *ranges))
    if block.init is not None:
        _visit(block.init, inner, found)
    _visit(block.body, inner, found)
