"""Expressions as short text for people."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of, prim

_SYMBOLS: dict[type, str] = {
    prim.Add: "+",
    prim.Sub: "-",
    prim.Mul: "*",
    prim.Div: "/",
    prim.FloorDiv: "//",
    prim.FloorMod: "%",
    prim.LT: "<",
    prim.LE: "<=",
    prim.GT: ">",
    prim.GE: ">=",
    prim.EQ: "==",
    prim.NE: "!=",
    prim.And: "and",
    prim.Or: "or",
}
_LONGEST = 60
_DEEPEST = 6


def text_of(expression: Any) -> str:
    """Return the expression without types: ``exp(lv78[i, k] - maximum[i])``.

    Of a long one the innermost parts are written as three dots. TVM's own printer needs the
    definition of every variable, and writes each type.
    """
    text = ""
    for depth in range(_DEEPEST, 0, -1):
        text = _text(expression, depth)
        if len(text) <= _LONGEST:
            break
    return text


def _text(node: Any, depth: int) -> str:
    def part(child: Any) -> str:
        return _text(child, depth - 1)

    if depth < 0:
        return "..."
    match node:
        case prim.IntImm():
            return str(int(node.value))
        case prim.FloatImm():
            return f"{float(node.value):.6g}"
        case TensorLoad():
            return f"{buffer_of(node).name}[{', '.join(map(part, node.indices))}]"
        case tvm.ir.Call():
            name = getattr(node.op, "name", str(node.op)).rpartition(".")[2]
            return f"{name}({', '.join(map(part, node.args))})"
        case prim.Cast():
            return f"{node.ty.dtype}({part(node.value)})"
        case prim.Select():
            arms = f"{part(node.true_value)}, {part(node.false_value)}"
            return f"select({part(node.condition)}, {arms})"
        case prim.Min() | prim.Max():
            return f"{type(node).__name__.lower()}({part(node.a)}, {part(node.b)})"
        case tirx.Var():
            return str(node.name)
    symbol = _SYMBOLS.get(type(node))
    if symbol is not None:
        return f"({part(node.a)} {symbol} {part(node.b)})"
    return type(node).__name__
