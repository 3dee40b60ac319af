"""Small ONNX models, made node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

node = helper.make_node


def value(name: str, dtype: str, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    """Return an input or output."""
    is_text = dtype == "str"
    kind = onnx.TensorProto.STRING if is_text else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str | onnx.ValueInfoProto],
    weights: Mapping[str, Any] | None = None,
    opset: int = 18,
    **domains: int,
) -> onnx.ModelProto:
    """Return a model; outputs that are names get the type that ONNX infers."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        list(inputs),
        [
            helper.make_empty_tensor_value_info(one) if isinstance(one, str) else one
            for one in outputs
        ],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(name.replace("_", "."), at) for name, at in domains.items()]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def weights(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    """Return small random weights."""
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(dtype)


def branch(name: str, nodes: Sequence[onnx.NodeProto], output: str) -> onnx.GraphProto:
    """Return a branch of an ``If``."""
    return helper.make_graph(list(nodes), name, [], [helper.make_empty_tensor_value_info(output)])


def network() -> onnx.ModelProto:
    """A convolution, a shape from the input, and a product: names as PyTorch exports them."""
    return model(
        [
            node("Conv", ["image", "conv.weight", "conv.bias"], ["c"], "/conv/Conv", pads=[1] * 4),
            node("Relu", ["c"], ["r"], "/act/Relu"),
            node("Shape", ["r"], ["shape"], "/Shape"),
            node("Gather", ["shape", "first"], ["batch"], "/Gather"),
            node("Unsqueeze", ["batch", "axis"], ["rows"], "/Unsqueeze"),
            node("Concat", ["rows", "rest"], ["target"], "/Concat", axis=0),
            node("Reshape", ["r", "target"], ["flat"], "/Reshape"),
            node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], "/fc/Gemm", transB=1),
        ],
        [value("image", "float32", ["batch", 2, 6, 6])],
        [value("logits", "float32", ["batch", 5])],
        {
            "conv.weight": weights(1, 8, 2, 3, 3),
            "conv.bias": weights(2, 8),
            "first": np.array(0),
            "axis": np.array([0]),
            "rest": np.array([-1]),
            "fc.weight": weights(3, 5, 288),
            "fc.bias": weights(4, 5),
        },
    )
