"""onnxruntime: runs a model as the reference, and single nodes to fold constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend._onnx.exact_products import with_exact_products
from relax_tapml.frontend._onnx.nodes import tensor_type

_FATAL = 4  # Only what ends the process is logged: errors are raised, too.
_NO_NUMPY = {"bfloat16": onnx.TensorProto.BFLOAT16}


def session_of(model: Path | onnx.ModelProto, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """Return a session that runs the nodes of a model one by one, as they are in the file.

    onnxruntime's own fusions are switched off, because the file is what is imported. A session
    has threads, which a fork would lose, so none is kept.

    Parameters
    ----------
    model
        A model, or a file that is too large to be one message. Products of 8-bit integers are
        exact, except in such a file; see ``exact_products``.
    threads
        For one operator; 0 for as many as there are cores.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    is_file = isinstance(model, Path)
    given = str(model) if is_file else with_exact_products(model).SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def run_model(model: Path | onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Run a model and return its outputs; errors are those of onnxruntime."""
    session = session_of(model)
    if all(array.dtype.name not in _NO_NUMPY for array in feeds.values()):
        return [_checked(value) for value in session.run(None, dict(feeds))]
    values = {name: _value(array) for name, array in feeds.items()}
    return [_checked(value) for value in session.run(None, values)]


def run_values(
    model: onnx.ModelProto, feeds: Mapping[str, Array], names: Sequence[str]
) -> list[Array]:
    """Run a model and return values of its main graph by name; errors are those of onnxruntime."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    outputs = {output.name for output in model.graph.output}
    extended.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in outputs
    )
    session = session_of(extended)
    values = {name: _value(array) for name, array in feeds.items()}
    return [_checked(value) for value in session.run(list(names), values)]


def _value(array: Array) -> Any:
    kind = _NO_NUMPY.get(array.dtype.name)
    if kind is None:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.array(array, order="C"))
    raw = np.array(array, order="C").view(np.uint16)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, kind)


def _checked(value: Any) -> Array:
    if not isinstance(value, np.ndarray):
        raise UsageError(f"an output is a {type(value).__name__}, and only tensors can be outputs")
    return value


def run_node(
    node: onnx.NodeProto, arrays: Mapping[str, Array], opsets: Sequence[onnx.OperatorSetIdProto]
) -> list[Array] | None:
    """Return what a node computes of constants; None if onnxruntime cannot run it alone."""
    single = one_node_model(node, arrays, opsets)
    feeds = {name: arrays[name] for name in node.input if name}
    try:
        found = session_of(single, threads=1).run(None, feeds)
    except Exception:  # Whatever it raises; then the node stays in the graph.
        return None
    return found if all(isinstance(value, np.ndarray) for value in found) else None


def one_node_model(
    node: onnx.NodeProto,
    arrays: Mapping[str, Array],
    opsets: Sequence[onnx.OperatorSetIdProto],
    constants: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """Return a model of one node, whose inputs are ``arrays`` and whose weights ``constants``."""
    constants = constants or {}
    names = list(dict.fromkeys(name for name in node.input if name))
    graph = onnx.helper.make_graph(
        [node],
        "one node",
        [
            onnx.helper.make_value_info(name, tensor_type(arrays[name].dtype, arrays[name].shape))
            for name in names
            if name not in constants
        ],
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
        [
            onnx.numpy_helper.from_array(constants[name], name)
            for name in names
            if name in constants
        ],
    )
    # The oldest version that has all types; files of it can be read by every release in use.
    return onnx.helper.make_model(graph, opset_imports=list(opsets), ir_version=10)
