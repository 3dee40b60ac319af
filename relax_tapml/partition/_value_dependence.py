"""Which arguments of a kernel decide where it reads, or by what it divides."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.derive.bounded import dtype_of, is_float

_DIVISIONS = (prim.Div, prim.Mod, prim.FloorDiv, prim.FloorMod)
_EXTERNAL = ("call_extern", "call_packed", "call_cpacked")


def deciding_params(function: tirx.PrimFunc) -> tuple[int, ...]:
    """Return which parameters may make a kernel crash that returns for other values of them.

    A kernel whose indices, extents and divisors do not depend on what it reads does the same for
    all values. Of others it is every whole number that they read, which errs on the safe side;
    where they call external code or turn floats into whole numbers, every parameter that they read.

    Parameters
    ----------
    function
        As Relax lowers operators; its parameters are the buffers.

    Returns
    -------
    tuple of int
        Numbers of parameters, empty for most kernels. Those that the kernel writes to are left out.
    """
    body = function.body
    loaded: set[Any] = set()
    stored: set[Any] = set()
    # Variables that stand for something that was read.
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
        if not is_float(dtype_of(node)):
            deciding.append(node.b)

    def call(node: Any) -> None:
        if getattr(node.op, "name", "").endswith(_EXTERNAL):
            opaque.append(node)

    def cast(node: Any) -> None:
        if is_float(dtype_of(node.value)) and not is_float(dtype_of(node)):
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
            *((division, divide) for division in _DIVISIONS),
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
    """Return whether an expression reads from memory, or has a variable that does."""
    found: list[Any] = []
    tvm_ffi.structural_walk(
        expr,
        [
            (TensorLoad, found.append),
            (tirx.Var, lambda var: found.append(var) if var in bound else None),
        ],
    )
    return bool(found)
