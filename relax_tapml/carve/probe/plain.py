"""PrimFuncs without blocks, and what their expressions read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from relax_tapml._compat import TensorLoad, buffer_of, prim

_ENTRY = "plain"
_PLAIN = tvm.transform.Sequential(
    [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.LowerOpaqueBlock(),
    ]
)


def plain(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a PrimFunc as loops and stores, with the same parameters.

    Raises
    ------
    Exception
        Whatever TVM raises about a PrimFunc that it cannot lower.
    """
    named = function.with_attr("global_symbol", _ENTRY)
    return _PLAIN(tvm.IRModule({_ENTRY: named}))[_ENTRY]


def nodes(root: Any, kind: Any) -> list[Any]:
    """Return the nodes of a kind in a statement or expression."""
    found: list[Any] = []
    tvm_ffi.structural_walk(root, [(kind, found.append)])
    return found


def loaded(root: Any, variables: Mapping[Any, set[Any]] | None = None) -> set[Any]:
    """Return the tensors that an expression reads.

    Parameters
    ----------
    root
        The expression.
    variables
        The tensors that the values of variables come from.
    """
    found = {buffer_of(load) for load in nodes(root, TensorLoad)}
    if variables:
        for var in nodes(root, tirx.Var):
            found |= variables.get(var, set())
    return found


def is_float_expr(expr: Any) -> bool:
    """Return whether an expression is a float."""
    return str(expr.ty.dtype).startswith(("float", "bfloat"))


def is_sum(store: Any) -> bool:
    """Return whether a store adds to the float that it stores to, or takes from it."""
    if not is_float_expr(store.value):
        return False
    return any(
        _is_itself(node.a, store) or _is_itself(node.b, store)
        for kind in (prim.Add, prim.Sub)
        for node in nodes(store.value, kind)
    )


def _is_itself(expr: Any, store: Any) -> bool:
    return (
        isinstance(expr, TensorLoad)
        and buffer_of(expr).same_as(store.buffer)
        and all(map(tvm_ffi.structural_equal, expr.indices, store.indices))
    )
