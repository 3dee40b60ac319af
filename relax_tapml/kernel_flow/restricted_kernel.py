"""A PrimFunc restricted to some values of a free axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.kernel_flow.free_axes import FreeAxis


def restricted_kernel(function: tirx.PrimFunc, axes: Sequence[FreeAxis]) -> tirx.PrimFunc:
    """Return a PrimFunc that does the turns of free axes at given values only.

    Dimensions of an axis become as long as there are values: a result holds the elements at these,
    in their order, and an input that ``FreeAxis.inputs`` lists is passed as its elements at these.
    ::

        for i, j, k: C[i, j] = C[i, j] + A[i, k] * B[k, j]
        # becomes, restricted in j
        for i, t, k: C[i, t] = C[i, t] + A[i, k] * B[k, t]      # with values[t] where j counts

    Parameters
    ----------
    function
        Without blocks, as ``plain_kernel`` returns it. Not changed.
    axes
        Of ``free_axes``, some of them.

    Returns
    -------
    PrimFunc
        With one more parameter for each axis, after those of the function: the values, int64.
    """
    taken: dict[Any, tuple[Any, Any]] = {}
    dims: dict[Any, dict[int, Any]] = {}
    values = []
    params = list(function.params)
    for number, axis in enumerate(axes):
        count = tirx.Var(f"count{number}", "int64")
        chosen = tirx.decl_buffer((count,), "int64", f"values{number}")
        values.append(chosen)
        taken.update(dict.fromkeys(axis.loops, (count, chosen)))
        for buffer, of in axis.buffers.items():
            dims.setdefault(buffer, {}).update(dict.fromkeys(of, count))
        for at in axis.inputs:
            dims.setdefault(params[at.param], {})[at.dim] = count
    buffers = {buffer: _resized(buffer, of) for buffer, of in dims.items()}
    turns = {variable: tirx.Var(variable.name, str(variable.ty.dtype)) for variable in taken}

    def value_of(variable: Any) -> Any:
        if variable not in taken:
            return variable
        dtype = str(variable.ty.dtype)
        return _cast(dtype, tirx.BufferLoad(taken[variable][1], [turns[variable]]))

    def turned(buffer: Any, indices: Sequence[Any]) -> list[Any]:
        changed = dims.get(buffer, {})
        return [turns[index] if dim in changed else index for dim, index in enumerate(indices)]

    def load(node: Any) -> Any:
        buffer = buffer_of(node)
        if buffer not in buffers:
            return node
        return tirx.BufferLoad(buffers[buffer], turned(buffer, node.indices))

    def mapped(expr: Any) -> Any:
        # Loads come before what is in them, while their indices still are variables.
        return tvm_ffi.structural_map(expr, [(TensorLoad, load), (tirx.Var, value_of)], order="pre")

    def statement(node: Any) -> Any:
        match node:
            case tirx.SeqStmt():
                return tirx.SeqStmt([statement(part) for part in node.seq])
            case tirx.For():
                body, start = statement(node.body), mapped(node.min)
                if node.loop_var not in taken:
                    extent = mapped(node.extent)
                    return tirx.For(node.loop_var, start, extent, node.kind, body)
                variable = turns[node.loop_var]
                extent = _cast(str(variable.ty.dtype), taken[node.loop_var][0])
                return tirx.For(variable, start, extent, node.kind, body)
            case tirx.IfThenElse():
                otherwise = None if node.else_case is None else statement(node.else_case)
                condition = mapped(node.condition)
                return tirx.IfThenElse(condition, statement(node.then_case), otherwise)
            case tirx.Bind():
                return tirx.Bind(node.var, mapped(node.value))
            case tirx.AllocBuffer():
                return tirx.AllocBuffer(buffers.get(node.buffer, node.buffer))
            case tirx.BufferStore():
                buffer = buffers.get(node.buffer, node.buffer)
                value = mapped(node.value)
                indices = [mapped(index) for index in turned(node.buffer, node.indices)]
                return tirx.BufferStore(buffer, value, indices)
        return node

    body = statement(function.body)
    attrs = {"global_symbol": "restricted", "tirx.noalias": True}
    changed = [buffers.get(param, param) for param in params]
    return tirx.PrimFunc([*changed, *values], body).with_attrs(attrs)


def _cast(dtype: str, expr: Any) -> Any:
    return expr if str(expr.ty.dtype) == dtype else prim.Cast(dtype, expr)


def _resized(buffer: Any, counts: dict[int, Any]) -> Any:
    shape = [counts.get(dim, extent) for dim, extent in enumerate(buffer.shape)]
    return tirx.decl_buffer(shape, str(buffer.dtype), buffer.name)
