"""Which arguments of a kernel determine its indices and divisors."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.arrays import is_float
from relax_tapml.kernel_flow.expressions import DIVISIONS, is_float_expr

_EXTERNAL = ("call_extern", "call_packed", "call_cpacked")


def deciding_params(function: tirx.PrimFunc) -> tuple[int, ...]:
    """Return the parameters that may crash a kernel for some of their values.

    A kernel whose indices, extents and divisors do not depend on the values that it reads has none.
    For other kernels these are all parameters of whole numbers that the kernel reads, which may be
    more than necessary; if it calls external code or converts floats to whole numbers, all
    parameters that it reads.

    Parameters
    ----------
    function
        As Relax lowers operators; its parameters are the buffers.

    Returns
    -------
    tuple of int
        Numbers of parameters, without those that the kernel writes to. Empty for most kernels.
    """
    body = function.body
    loaded: set[Any] = set()
    stored: set[Any] = set()
    # Variables whose values depend on loaded values.
    bound: set[Any] = set()
    deciding: list[Any] = []
    opaque: list[Any] = []

    def bind(node: Any) -> None:
        if _reads(node.value, bound):
            bound.add(node.var)

    def store(node: Any) -> None:
        stored.add(node.buffer)
        deciding.extend(node.indices)

    def load(node: Any) -> None:
        loaded.add(buffer_of(node))
        deciding.extend(node.indices)

    def divide(node: Any) -> None:
        if not is_float_expr(node):
            deciding.append(node.b)

    def call(node: Any) -> None:
        if getattr(node.op, "name", "").endswith(_EXTERNAL):
            opaque.append(node)

    def cast(node: Any) -> None:
        if is_float_expr(node.value) and not is_float_expr(node):
            opaque.append(node)

    tvm_ffi.structural_walk(
        body,
        [
            (tirx.Bind, bind),
            (tirx.BufferStore, store),
            (TensorLoad, load),
            (tirx.For, lambda node: deciding.extend((node.min, node.extent))),
            (tirx.While, opaque.append),
            (ir_expr.Call, call),
            (prim.Cast, cast),
            *((division, divide) for division in DIVISIONS),
        ],
    )
    is_external = any(not isinstance(node, prim.Cast) for node in opaque)
    if not is_external and not any(_reads(expr, bound) for expr in deciding):
        return ()
    return tuple(
        number
        for number, param in enumerate(function.params)
        if param in loaded and param not in stored and (opaque or not is_float(str(param.dtype)))
    )


def _reads(expr: Any, bound: set[Any]) -> bool:
    """Return whether an expression depends on a loaded value, directly or by a variable."""
    found: list[Any] = []
    tvm_ffi.structural_walk(
        expr,
        [
            (TensorLoad, found.append),
            (tirx.Var, lambda var: found.append(var) if var in bound else None),
        ],
    )
    return bool(found)
