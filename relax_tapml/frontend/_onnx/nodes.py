"""Nodes of an ONNX graph: their attributes, types, and what messages call them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from relax_tapml.printable import printable

Types = dict[str, onnx.TypeProto]
"""Types of values by name; one that is not known is not in it."""

STANDARD = ("", "ai.onnx")
"""The names of ONNX's own domain of operators."""
_LISTED_BYTES = 60


def operator_of(node: onnx.NodeProto) -> str:
    """Return the operator with its domain, if it is not ONNX's: ``com.microsoft::FusedConv``."""
    return node.op_type if node.domain in STANDARD else printable(f"{node.domain}::{node.op_type}")


def name_of(node: onnx.NodeProto) -> str:
    """Return a node's name, or the name of its first output if it has none."""
    return printable(node.name or first_output(node) or node.op_type)


def first_output(node: onnx.NodeProto) -> str:
    """Return the name of the first output that has one: ``Y`` of an LSTM may be left out."""
    return next((name for name in node.output if name), "")


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in a node's attributes: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs in them, in order."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return attributes by name: numbers, bytes, tuples of them, or messages of ONNX."""
    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        is_list = isinstance(value, Sequence) and not isinstance(value, bytes | str)
        found[attribute.name] = tuple(value) if is_list else value
    return found


def graph_attribute(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    """Return a graph of a node, such as ``then_branch``."""
    return next(attribute.g for attribute in node.attribute if attribute.name == name)


def opset_of(model: onnx.ModelProto, domain: str = "") -> int:
    """Return the version of a domain's operators that a model uses."""
    names = STANDARD if domain in STANDARD else (domain,)
    return next((item.version for item in model.opset_import if item.domain in names), 1)


def dtype_of(elem_type: int) -> str:
    """Return the dtype of an element type of ONNX as TVM and ``ml_dtypes`` write it.

    Raises
    ------
    ValueError
        There is no such dtype: strings, complex numbers.
    """
    if elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        raise ValueError("strings" if elem_type else "values of no type")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    if dtype.kind in "OSUc" or (dtype.kind == "V" and not hasattr(ml_dtypes, dtype.name)):
        raise ValueError(f"values of type {dtype.name}")
    return str(dtype.name)


def shape_of(kind: onnx.TypeProto | None) -> list[int | str] | None:
    """Return a tensor's dimensions, ``?`` for those without size and name; None if not known."""
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in kind.tensor_type.shape.dim
    ]


def static_shape(kind: onnx.TypeProto | None) -> tuple[int, ...] | None:
    """Return a tensor's shape if all of its dimensions are numbers."""
    shape = shape_of(kind)
    if shape is None or not all(isinstance(dim, int) and dim >= 0 for dim in shape):
        return None
    return tuple(int(dim) for dim in shape)


def tensor_type(dtype: np.dtype[Any] | str, shape: Sequence[int | str | None]) -> onnx.TypeProto:
    """Return the type of a tensor."""
    elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_type_proto(elem_type, list(shape))


def type_text(kind: onnx.TypeProto | None) -> str:
    """Return ``float32 [1, 3, n]``; what is not known is ``?``."""
    if kind is None:
        return "?"
    which = kind.WhichOneof("value")
    if which != "tensor_type":
        return str(which).removesuffix("_type")
    try:
        dtype = dtype_of(kind.tensor_type.elem_type)
    except ValueError as error:
        dtype = str(error)
    shape = shape_of(kind)
    dims = "of unknown shape" if shape is None else f"[{', '.join(map(str, shape))}]"
    return f"{dtype} {printable(dims)}"


def described(
    node: onnx.NodeProto, opset: int, types: Mapping[str, onnx.TypeProto], place: str = ""
) -> str:
    """Return a node for messages: name, operator, version, inputs with their types, and place."""
    version = f"opset {opset}" if node.domain in STANDARD else f"domain version {opset}"
    inputs = [
        f"{_short(name)}: {type_text(types.get(name))}" if name else "none" for name in node.input
    ]
    where = f", {place}" if place else ""
    return (
        f"node '{name_of(node)}' ({operator_of(node)}, {version}{where}; "
        f"inputs: {', '.join(inputs) or 'none'})"
    )


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LISTED_BYTES else f"...{name[-_LISTED_BYTES:]}"
