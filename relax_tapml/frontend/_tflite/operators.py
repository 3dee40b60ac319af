"""The operators of a TFLite model: their names and tensors, and which of them can be imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import tflite

from relax_tapml.errors import LoweringError
from relax_tapml.printable import names_text, printable

_NAMED_AT_MOST = 8
_SHOWN = 4
_POSTPROCESS = "TFLite_Detection_PostProcess"  # The one custom operator that TVM converts.
_QUANTIZED = ("int8", "uint8", "int16")
_BRANCH = (
    "TVM plans memory across branches, so that one uses storage which only the other allocates"
)
_RANDOM = "its values are random, and cannot be compared"
REFUSED = {
    "IF": _BRANCH,
    "WHILE": _BRANCH,
    "STABLEHLO_WHILE": _BRANCH,
    "MULTINOMIAL": _RANDOM,
    "RANDOM_STANDARD_NORMAL": _RANDOM,
    "RANDOM_UNIFORM": _RANDOM,
    "STABLEHLO_RNG_BIT_GENERATOR": _RANDOM,
}
"""Operators that TVM converts, and why their result is of no use."""
_STATE = "it writes a state that the next run reads, and a run here begins anew"
MOVES = frozenset(
    {"EXPAND_DIMS", "GATHER", "GATHER_ND", "PACK", "RESHAPE", "REVERSE_V2", "SLICE", "SPLIT"}
    | {"SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK"}
)
"""Operators that copy values, so that quantised ones stay right where the scales do not change."""
_SUBGRAPHS = {
    "CALL_ONCE": (tflite.CallOnceOptions, ("InitSubgraphIndex",)),
    "IF": (tflite.IfOptions, ("ThenSubgraphIndex", "ElseSubgraphIndex")),
    "WHILE": (tflite.WhileOptions, ("CondSubgraphIndex", "BodySubgraphIndex")),
}
_NAMES = {
    code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)
}
_DTYPES: dict[int, str] = {
    code: {"RESOURCE": "resource", "VARIANT": "variant"}.get(name, name.lower())
    for name, code in vars(tflite.TensorType).items()
    if isinstance(code, int)
}


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of a model.

    Parameters
    ----------
    name
        ``CONV_2D``; of a custom operator its own.
    is_custom
        Whether it is none of the format.
    at
        Its number in its subgraph.
    subgraph
        The number of the subgraph.
    inputs, outputs
        Numbers of tensors; -1 is an input that is left out.
    place
        ``operator 3 of 20``.
    raw
        The ``tflite.Operator``.
    """

    name: str
    is_custom: bool
    at: int
    subgraph: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    place: str
    raw: Any

    def described(self, graph: Any) -> str:
        """Return a text for errors, with its tensors; ``graph`` is its subgraph."""
        inputs = [tensor_text(graph, at) for at in self.inputs[:_SHOWN] if at >= 0]
        outputs = [tensor_text(graph, at) for at in self.outputs[:_SHOWN]]
        return (
            f"{self.name} ({self.place}, subgraph {self.subgraph}; inputs: "
            f"{', '.join(inputs) or 'none'}; outputs: {', '.join(outputs) or 'none'})"
        )


def operators_of(model: Any, number: int) -> list[Operator]:
    """Return the operators of a subgraph in their order."""
    graph = model.Subgraphs(number)
    count = graph.OperatorsLength()
    return [_operator(model, graph.Operators(at), at, count, number) for at in range(count)]


def _operator(model: Any, raw: Any, at: int, count: int, subgraph: int) -> Operator:
    code = model.OperatorCodes(raw.OpcodeIndex())
    # Numbers below 127 may be in either field.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    is_custom = number == tflite.BuiltinOperator.CUSTOM
    name = _NAMES.get(number, f"operator code {number}")
    if is_custom:
        name = printable((code.CustomCode() or b"").decode(errors="replace"))
    return Operator(
        name=name,
        is_custom=is_custom,
        at=at,
        subgraph=subgraph,
        inputs=tuple(raw.Inputs(i) for i in range(raw.InputsLength())),
        outputs=tuple(raw.Outputs(i) for i in range(raw.OutputsLength())),
        place=f"operator {at} of {count}",
        raw=raw,
    )


def dtype_of(tensor: Any) -> str:
    """Return the name of a tensor's type: NumPy's where it has one."""
    return _DTYPES.get(tensor.Type(), f"type {tensor.Type()}")


def tensor_name(graph: Any, at: int) -> str:
    """Return the name of a tensor, ``#7`` where it has none."""
    name: bytes = graph.Tensors(at).Name() or b""
    return name.decode(errors="replace") or f"#{at}"


def shape_of(tensor: Any) -> list[int]:
    """Return the shape of a tensor; -1 is a size that is not known."""
    return [int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength())]


def tensor_text(graph: Any, at: int) -> str:
    """``'x': float32 [1, 4]``."""
    tensor = graph.Tensors(at)
    return f"'{printable(tensor_name(graph, at))}': {dtype_of(tensor)} {shape_of(tensor)}"


def check_operators(model: Any, known: Iterable[str], quantized: Iterable[str], label: str) -> None:
    """Check that every operator of the main subgraph, and of those that it uses, can be imported.

    Parameters
    ----------
    model
        A ``tflite.Model``.
    known
        Operators with a converter.
    quantized
        Those of them whose converter is for quantised tensors, too.
    label
        The model's name.

    Raises
    ------
    LoweringError
        Some cannot: all of them are listed, with a node of each.
    """
    converters, on_integers = frozenset(known), frozenset(quantized)
    found: dict[tuple[str, str], list[str]] = {}
    for operator, is_init in _reached(model):
        graph = model.Subgraphs(operator.subgraph)
        reason = _reason(operator, graph, is_init, converters, on_integers)
        if reason:
            found.setdefault((operator.name, reason), []).append(operator.described(graph))
    if not found:
        return
    lines = []
    for (_, reason), texts in found.items():
        more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
        lines.append(f"  {texts[0]}{more}: {reason}")
    names = list(dict.fromkeys(name for name, _ in found))
    raise LoweringError(
        f"{label} has {len(names)} operator{'s' if len(names) > 1 else ''} that cannot be "
        f"imported: {names_text(names, _NAMED_AT_MOST)}.\n" + "\n".join(lines) + "\n"
        "Export the model with other operators."
    )


def _reached(model: Any) -> Iterator[tuple[Operator, bool]]:
    """Yield operators, and whether they are of a subgraph that only sets up states."""
    waiting, seen = [(0, False)], {0}
    while waiting:
        number, is_init = waiting.pop()
        for operator in operators_of(model, number):
            yield operator, is_init
            for other in _subgraphs(operator):
                if 0 <= other < model.SubgraphsLength() and other not in seen:
                    seen.add(other)
                    waiting.append((other, is_init or operator.name == "CALL_ONCE"))


def _subgraphs(operator: Operator) -> list[int]:
    if operator.is_custom or operator.name not in _SUBGRAPHS or not operator.raw.BuiltinOptions():
        return []
    kind, fields = _SUBGRAPHS[operator.name]
    options, given = kind(), operator.raw.BuiltinOptions()
    options.Init(given.Bytes, given.Pos)
    return [int(getattr(options, field)()) for field in fields]


def _reason(
    operator: Operator, graph: Any, is_init: bool, known: frozenset[str], quantized: frozenset[str]
) -> str:
    if operator.is_custom:
        return "" if operator.name == _POSTPROCESS else "a custom operator, which TVM does not have"
    if operator.name in REFUSED:
        return REFUSED[operator.name]
    if operator.name not in known:
        return "TVM has no converter"
    tensors = [graph.Tensors(at) for at in (*operator.inputs, *operator.outputs) if at >= 0]
    dtypes = [dtype_of(tensor) for tensor in tensors]
    for dtype in ("complex64", "complex128"):
        if dtype in dtypes:
            return "complex numbers, which Relax does not have"
    if operator.name == "ASSIGN_VARIABLE" and not is_init:
        return _STATE
    scaled = [tensor for tensor in tensors if is_quantized(tensor)]
    if is_init:
        return ""
    if not scaled or operator.name in quantized:
        return _hybrid(operator, graph) if scaled else ""
    if operator.name in MOVES and _is_one_scale(scaled):
        return ""
    if operator.name in ("READ_VARIABLE", "VAR_HANDLE", "ASSIGN_VARIABLE"):
        return ""
    return "its tensors are quantised, and TVM computes with the integers as if they were values"


def _hybrid(operator: Operator, graph: Any) -> str:
    first = (
        graph.Tensors(operator.inputs[0]) if operator.inputs and operator.inputs[0] >= 0 else None
    )
    if operator.name in ("QUANTIZE", "DEQUANTIZE") or first is None or is_quantized(first):
        return ""
    if any(is_quantized(graph.Tensors(at)) for at in operator.outputs):
        return ""
    return (
        "its weights are quantised and its input is not (dynamic range quantisation), and TVM "
        "computes with the integers as if they were values; quantise the whole model, or nothing"
    )


def is_quantized(tensor: Any) -> bool:
    """Whether the integers of a tensor stand for other numbers."""
    given = tensor.Quantization()
    is_scaled = given is not None and given.ScaleLength() > 0
    return is_scaled and dtype_of(tensor) in (*_QUANTIZED, "int32", "int64")


def _is_one_scale(tensors: Iterable[Any]) -> bool:
    scales = set()
    for tensor in tensors:
        given = tensor.Quantization()
        scales.add(
            (
                tuple(given.Scale(at) for at in range(given.ScaleLength())),
                tuple(given.ZeroPoint(at) for at in range(given.ZeroPointLength())),
            )
        )
    return len(scales) == 1
