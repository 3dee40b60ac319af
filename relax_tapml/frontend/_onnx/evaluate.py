"""Runs a folded graph node by node in onnxruntime: its values, or all of it in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.reference
from onnx import TensorProto

from relax_tapml.arrays import Array, dtype_named
from relax_tapml.frontend._onnx.convolution import convolution, transposed_convolution
from relax_tapml.frontend._onnx.nodes import (
    STANDARD,
    attributes_of,
    graph_attribute,
    operator_of,
    subgraphs,
)
from relax_tapml.frontend._onnx.runtime import one_node_model, session_of
from relax_tapml.printable import names_text

_NARROW = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_OWN: dict[str, Callable[[Sequence[Array | None], Mapping[str, Any]], Array]] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
}
_AGREE = 1e-2
"""How far, of the largest value, an implementation in float64 may be from onnxruntime's own dtype.

It only tells a wrong implementation from a right one."""

_ROUNDED, _ROUNDED_NARROW = 1e-3, 3e-2
"""How far, of the largest value, the same graph with functions replaced may be; and in 16 bits."""

Values = dict[str, Array]
RunNode = Callable[[onnx.NodeProto, Values], list[Array]]


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """A node, and the values that it took and returned by name."""

    node: onnx.NodeProto
    inputs: Values
    outputs: Values


def node_runs(
    model: onnx.ModelProto, feeds: Mapping[str, Array], run: RunNode | None = None
) -> Iterator[NodeRun]:
    """Run a graph node by node and yield each; values that no later node takes are dropped.

    Of an ``If``, the nodes of the branch that is taken are yielded, then the ``If`` itself.

    Parameters
    ----------
    model
        Without functions of its own.
    feeds
        Its inputs by name.
    run
        Runs one node; by default onnxruntime, as the node is.
    """
    values = dict(feeds)
    yield from _graph_runs(model.graph, values, run or Narrow(model).run, keep=set())


def run_by_nodes(model: onnx.ModelProto, feeds: Mapping[str, Array], run: RunNode) -> list[Array]:
    """Run a graph node by node and return its outputs."""
    names = [output.name for output in model.graph.output]
    values = dict(feeds)
    for _ in _graph_runs(model.graph, values, run, keep=set(names)):
        pass
    return [values[name] for name in names]


def _graph_runs(
    graph: onnx.GraphProto, values: Values, run: RunNode, keep: set[str]
) -> Iterator[NodeRun]:
    for tensor in graph.initializer:
        array = np.asarray(onnx.numpy_helper.to_array(tensor)).reshape(tuple(tensor.dims))
        values[tensor.name] = array
    readers = Counter(name for node in graph.node for name in set(_read(node)))
    kept = keep | {output.name for output in graph.output}
    for node in graph.node:
        if node.op_type == "If" and node.domain in STANDARD:
            taken = "then_branch" if values[node.input[0]].reshape(-1)[0] else "else_branch"
            branch, inner = graph_attribute(node, taken), dict(values)
            yield from _graph_runs(branch, inner, run, keep=set())
            found = [inner[output.name] for output in branch.output]
        else:
            found = run(node, values)
        outputs = {name: value for name, value in zip(node.output, found, strict=False) if name}
        yield NodeRun(
            node=node, inputs={name: values[name] for name in _read(node)}, outputs=outputs
        )
        values.update(outputs)
        for name in set(_read(node)):
            readers[name] -= 1
            if not readers[name] and name not in kept:
                values.pop(name, None)


def _read(node: onnx.NodeProto) -> list[str]:
    """Return the names of all values that a node takes, in its subgraphs, too."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        own = {tensor.name for tensor in graph.initializer} | {one.name for one in graph.input}
        own |= {name for inner in graph.node for name in inner.output}
        names += [name for inner in graph.node for name in _read(inner) if name not in own]
        names += [output.name for output in graph.output if output.name not in own]
    return names


class Narrow:
    """Runs nodes in onnxruntime, in their own dtypes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opsets = list(model.opset_import)

    def run(self, node: onnx.NodeProto, values: Values) -> list[Array]:
        """Return what a node makes of values; errors are those of onnxruntime."""
        feeds = {name: values[name] for name in _read(node)}
        model = one_node_model(node, feeds, self._opsets)
        session = session_of(model)
        kinds = {one.name: one.type for one in (*session.get_inputs(), *session.get_outputs())}
        halves = {name for name, kind in kinds.items() if kind == "tensor(bfloat16)"}
        found = _run_in_float32(model, feeds, halves) if halves else session.run(None, feeds)
        # Outputs that are not used have no name, and are not returned.
        results = iter(found)
        return [next(results) if name else np.empty(0) for name in node.output]


def _run_in_float32(model: onnx.ModelProto, feeds: Values, halves: set[str]) -> list[Array]:
    """Run a model of one node whose values ``halves`` are bfloat16, which NumPy does not have."""
    graph, narrow = model.graph, dtype_named("bfloat16")
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    given = dict(feeds)
    for info in (*graph.input, *graph.output):
        if info.name not in halves:
            continue
        name, outside = info.name, f"{info.name}#float32"
        if name in given:
            cast, to = (outside, name), TensorProto.BFLOAT16
            given[outside] = given.pop(name).astype(np.float32)
        else:
            cast, to = (name, outside), TensorProto.FLOAT
        (before if to == TensorProto.BFLOAT16 else after).append(
            onnx.helper.make_node("Cast", [cast[0]], [cast[1]], to=to)
        )
        info.name = outside
        info.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = [*before, *graph.node, *after]
    copies = onnx.GraphProto()
    copies.node.extend(nodes)
    graph.ClearField("node")
    graph.node.extend(copies.node)
    found = session_of(model).run(None, given)
    names = [info.name.removesuffix("#float32") for info in graph.output]
    return [
        value.astype(narrow) if name in halves else value
        for name, value in zip(names, found, strict=True)
    ]


class Wide:
    """Runs nodes in float64.

    onnxruntime has no kernels for float64 of some operators: then convolutions are computed here,
    others by ONNX's reference implementation, if it agrees with onnxruntime in the node's own
    dtype; else the node is computed in its own dtype.

    Attributes
    ----------
    narrow
        The operators that were computed in their own dtype.
    """

    def __init__(self, model: onnx.ModelProto, dtypes: Mapping[str, str]) -> None:
        self.narrow: set[str] = set()
        self._model = model
        self._opsets = list(model.opset_import)
        self._versions = {item.domain: item.version for item in model.opset_import}
        self._dtypes = dtypes
        self._lacking: set[str] = set()
        self._in_own = Narrow(model)

    def run(self, node: onnx.NodeProto, values: Values) -> list[Array]:
        """Return what a node makes of values, floats as float64."""
        feeds = {name: _wide(values[name]) for name in _read(node)}
        if not self._has_floats(node, feeds):
            return self._in_own.run(node, feeds)
        key = operator_of(node)
        if key not in self._lacking and not any(subgraphs(node)):
            found = self._in_onnxruntime(node, feeds)
            if found is not None:
                return found
            self._lacking.add(key)
        own = {
            name: array.astype(self._dtype(name)) if array.dtype == np.float64 else array
            for name, array in feeds.items()
        }
        expected = [_wide(value) for value in self._in_own.run(node, own)]
        found = self._elsewhere(node, feeds)
        if found is not None and _agree(found, expected):
            return found
        self.narrow.add(key)
        return expected

    def _dtype(self, name: str) -> Any:
        return dtype_named(self._dtypes.get(name, "float32"))

    def _has_floats(self, node: onnx.NodeProto, feeds: Values) -> bool:
        names = [*feeds, *node.output]
        return any(self._dtypes.get(name, "float32").endswith(("32", "16")) for name in names) and (
            any(array.dtype.kind == "f" for array in feeds.values())
            or any("float" in self._dtypes.get(name, "") for name in node.output)
        )

    def _in_onnxruntime(self, node: onnx.NodeProto, feeds: Values) -> list[Array] | None:
        try:
            model = one_node_model(_wide_node(node), self._typed(node, feeds), self._opsets)
            session = session_of(model)
            found = iter(session.run(None, self._typed(node, feeds)))
        except Exception:  # It has no kernel of these types.
            return None
        return [_wide(next(found)) if name else np.empty(0) for name in node.output]

    def _typed(self, node: onnx.NodeProto, feeds: Values) -> Values:
        """Return inputs as float64, or as float32 where the operator takes nothing wider."""
        typed = dict(feeds)
        try:
            domain = "" if node.domain in STANDARD else node.domain
            version = self._versions.get(node.domain, self._versions.get("", 1))
            formals = list(onnx.defs.get_schema(node.op_type, version, domain).inputs)
        except onnx.defs.SchemaError:
            return typed
        for at, name in enumerate(node.input):
            types = formals[min(at, len(formals) - 1)].types
            if name and typed[name].dtype == np.float64 and "tensor(double)" not in types:
                typed[name] = typed[name].astype(np.float32)
        return typed

    def _elsewhere(self, node: onnx.NodeProto, feeds: Values) -> list[Array] | None:
        try:
            if node.op_type in _OWN and node.domain in STANDARD:
                given = [feeds[name] if name else None for name in node.input]
                return [_OWN[node.op_type](given, attributes_of(node))]
            model = one_node_model(_wide_node(node), feeds, self._opsets)
            found = iter(onnx.reference.ReferenceEvaluator(model).run(None, feeds))
            return [_wide(np.asarray(next(found))) if name else np.empty(0) for name in node.output]
        except Exception:  # Then the node is computed in its own dtype.
            return None


def run_wide(model: onnx.ModelProto, feeds: Mapping[str, Array], types: Mapping[str, str]) -> Any:
    """Return a graph's outputs computed in float64.

    Parameters
    ----------
    model
        Without functions of its own.
    feeds
        Its inputs by name.
    types
        Dtypes of the values by name.

    Raises
    ------
    RuntimeError
        An operator that adds up many terms could not be computed in float64.
    """
    wide = Wide(model, types)
    found = run_by_nodes(model, feeds, wide.run)
    if wide.narrow & _SUMS:
        raise RuntimeError(
            f"not in float64: {names_text(sorted(wide.narrow & _SUMS))}, of which onnxruntime "
            "has no kernel for it"
        )
    return found


_SUMS = {
    *("Attention", "AveragePool", "Conv", "ConvTranspose", "DFT", "Einsum", "GRU", "Gemm"),
    *("LSTM", "LayerNormalization", "MatMul", "RNN", "ReduceMean", "ReduceSum", "Softmax"),
}
"""Operators that add up many terms: computed in a narrow dtype, they show nothing."""


def _wide(array: Array) -> Array:
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float64) if is_float else array


def _agree(found: Sequence[Array], expected: Sequence[Array]) -> bool:
    for got, want in zip(found, expected, strict=True):
        if got.shape != want.shape or got.dtype.kind != want.dtype.kind:
            return False
        if not want.size or want.dtype.kind != "f":
            continue
        if not _is_near(got, want, _AGREE):
            return False
    return True


def _is_near(got: Array, want: Array, share: float) -> bool:
    """Whether values differ by at most a share of the largest one."""
    largest = float(np.nanmax(np.abs(want), initial=0.0, where=np.isfinite(want)))
    return np.allclose(got, want, rtol=0, atol=share * max(1e-30, largest), equal_nan=True)


def differs(found: Sequence[Array], expected: Sequence[Array]) -> bool:
    """Whether outputs in their own dtype differ by more than rounding; integers, whether at all."""
    for got, want in zip(found, expected, strict=True):
        if got.shape != want.shape or got.dtype != want.dtype:
            return True
        share = _ROUNDED_NARROW if want.dtype.itemsize <= 2 else _ROUNDED
        wide = _wide(want)
        is_float = wide.dtype.kind == "f"
        if not (_is_near(_wide(got), wide, share) if is_float else np.array_equal(got, want)):
            return True
    return False


def _wide_node(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a node whose attributes make float64."""
    new = onnx.NodeProto()
    new.CopyFrom(node)
    for attribute in new.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in _NARROW:
            attribute.i = TensorProto.DOUBLE
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in _NARROW:
            array = np.asarray(onnx.numpy_helper.to_array(attribute.t))
            wide = array.astype(np.float64).reshape(tuple(attribute.t.dims))
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(wide))
    return new
