"""What analyses of TIR look for in expressions and statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, buffer_of, prim, prim_op
from relax_tapml.arrays import is_float, is_integer

ADDRESS_OPS = frozenset({"tirx.address_of", "tirx.tvm_access_ptr"})
"""Operators that return an address: what is read through it is not visible."""

DIVISIONS = (prim.Div, prim.Mod, prim.FloorDiv, prim.FloorMod)
"""Divisions and remainders, of integers and of floats."""

_IF_THEN_ELSE = Op.get(prim_op("if_then_else"))


def nodes(root: Any, kind: Any) -> list[Any]:
    """Return the nodes of a kind in a statement or expression; none in a Python number."""
    found: list[Any] = []
    if not isinstance(root, int):
        tvm_ffi.structural_walk(root, [(kind, found.append)])
    return found


def loads(root: Any) -> list[Any]:
    """Return every load of a tensor element in a statement or expression."""
    return nodes(root, TensorLoad)


def loaded_buffers(root: Any, variables: Mapping[Any, set[Any]] | None = None) -> set[Any]:
    """Return the tensors that an expression reads.

    Parameters
    ----------
    root
        The expression.
    variables
        The tensors that the values of variables come from.
    """
    found = {buffer_of(load) for load in loads(root)}
    if variables:
        for var in nodes(root, tirx.Var):
            found |= variables.get(var, set())
    return found


def choice_of(expr: Any) -> tuple[Any, Any, Any] | None:
    """Return the condition and both values of a choice; None for other expressions."""
    if isinstance(expr, prim.Select):
        return expr.condition, expr.true_value, expr.false_value
    if isinstance(expr, ir_expr.Call) and expr.op.same_as(_IF_THEN_ELSE):
        return expr.args[0], expr.args[1], expr.args[2]
    return None


def constant(expr: Any) -> int | None:
    """Return the value of an integer constant; None for other expressions."""
    return int(expr.value) if isinstance(expr, tirx.IntImm) else None


def is_float_expr(expr: Any) -> bool:
    """Return whether an expression is a float."""
    return is_float(str(expr.ty.dtype))


def is_integer_expr(expr: Any) -> bool:
    """Return whether an expression is an integer or bool."""
    return is_integer(str(expr.ty.dtype))


def is_sum(store: Any) -> bool:
    """Return whether a store adds to the float that it stores to, or subtracts from it."""
    if not is_float_expr(store.value):
        return False
    return any(
        loads_element(node.a, store) or loads_element(node.b, store)
        for kind in (prim.Add, prim.Sub)
        for node in nodes(store.value, kind)
    )


def loads_element(expr: Any, store: Any) -> bool:
    """Return whether an expression is the element that a store stores to."""
    return (
        isinstance(expr, TensorLoad)
        and buffer_of(expr).same_as(store.buffer)
        and all(map(tvm_ffi.structural_equal, expr.indices, store.indices))
    )
