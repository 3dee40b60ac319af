"""Products of 8-bit integers that onnxruntime computes exactly on every processor.

Upstream: onnxruntime 1.23 and 1.32, MLAS. On x86 without VNNI a product of a signed with an
unsigned operand adds pairs of terms in 16 bits, which saturate. Its own option against that,
``session.x64quantprecision``, works only together with fusions, and for weights alone.
Symptom: a quantised model that is imported rightly differs from the framework on older machines.

Delete this file when products of mixed signs are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto

from relax_tapml.frontend._onnx.nodes import STANDARD, all_nodes, subgraphs

# The places of an operand and of its zero point, for both operands of a product.
_OPERANDS = {
    "ConvInteger": ((0, 2), (1, 3)),
    "MatMulInteger": ((0, 2), (1, 3)),
    "QLinearConv": ((0, 2), (3, 5)),
    "QLinearMatMul": ((0, 2), (3, 5)),
}
_MIXED = {TensorProto.INT8, TensorProto.UINT8}
_OFFSET = 128


def with_exact_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that computes the same, whose 8-bit products have operands of one sign.

    A signed operand, and its zero point, become unsigned ones that are larger by 128. The same
    model is returned where there is no such product.
    """
    if not any(_is_product(node) for node in all_nodes(model.graph)):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(onnx.shape_inference.infer_shapes(model))
    _rewrite(changed.graph, {}, "exact")
    return changed


def _is_product(node: onnx.NodeProto) -> bool:
    return node.domain in STANDARD and node.op_type in _OPERANDS


def _rewrite(graph: onnx.GraphProto, outside: Mapping[str, int], prefix: str) -> None:
    types = {**outside, **_types(graph)}
    nodes: list[onnx.NodeProto] = []
    for place, node in enumerate(graph.node):
        name = f"{prefix}/{place}"
        for number, inner in enumerate(subgraphs(node)):
            _rewrite(inner, types, f"{name}/{number}")
        if _is_product(node):
            for data, zero in _OPERANDS[node.op_type]:
                pair = {types.get(node.input[at]) for at, _ in _OPERANDS[node.op_type]}
                if pair == _MIXED and types.get(node.input[data]) == TensorProto.INT8:
                    nodes += _shift(node, data, zero, name)
                    break
        nodes.append(node)
    kept = onnx.GraphProto()
    kept.node.extend(nodes)
    del graph.node[:]
    graph.node.extend(kept.node)


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {one.name: one.type.tensor_type.elem_type for one in values}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _shift(node: onnx.NodeProto, data: int, zero: int, prefix: str) -> list[onnx.NodeProto]:
    """Make an operand of a node unsigned; return the nodes that compute it."""
    make: Callable[..., onnx.NodeProto] = onnx.helper.make_node
    offset = onnx.numpy_helper.from_array(_scalar(TensorProto.INT32))
    nodes = [make("Constant", [], [f"{prefix}/offset"], value=offset)]

    def shifted(at: int, what: str) -> str:
        wide, moved, narrow = (f"{prefix}/{what}/{step}" for step in ("wide", "moved", "narrow"))
        nodes.extend(
            [
                make("Cast", [node.input[at]], [wide], to=TensorProto.INT32),
                make("Add", [wide, f"{prefix}/offset"], [moved]),
                make("Cast", [moved], [narrow], to=TensorProto.UINT8),
            ]
        )
        return narrow

    node.input[data] = shifted(data, "operand")
    if zero < len(node.input) and node.input[zero]:
        node.input[zero] = shifted(zero, "zero")
        return nodes
    while len(node.input) <= zero:
        node.input.append("")
    node.input[zero] = f"{prefix}/zero"
    none = onnx.numpy_helper.from_array(_scalar(TensorProto.UINT8))
    return [*nodes, make("Constant", [], [node.input[zero]], value=none)]


def _scalar(elem_type: int) -> object:
    return onnx.helper.tensor_dtype_to_np_dtype(elem_type).type(_OFFSET)
