"""The nodes of an ONNX graph, each with the Relax that it becomes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tvm

from relax_tapml.arrays import Array
from relax_tapml.frontend._onnx.evaluate import NodeRun, Wide, node_runs
from relax_tapml.frontend._onnx.fold import Folded
from relax_tapml.frontend._onnx.folded_values import FoldedValue, first_wrong_value
from relax_tapml.frontend._onnx.importer import NodeImporter, places_of
from relax_tapml.frontend._onnx.model_file import MOST_PROTO_BYTES
from relax_tapml.frontend._onnx.node_script import node_script
from relax_tapml.frontend._onnx.nodes import (
    attributes_of,
    first_output,
    name_of,
    operator_of,
    opset_of,
    subgraphs,
    type_text,
)
from relax_tapml.frontend._onnx.onnx_call import Converter
from relax_tapml.frontend.model import GraphNode, NodeCall
from relax_tapml.printable import error_line, printable

_SHOWN = 6  # Values of a tensor in a text.


class OnnxGraph:
    """A ``FrameworkGraph`` of a model that was imported.

    Nodes of one kind, with equal attributes, types and small constants, are one function. Small
    initializers are constants of it, as in the model; other values are arguments.

    Parameters
    ----------
    original
        The file.
    folded
        The graph for the sizes of the sample; all of its dimensions are numbers.
    feeds
        The sample, by the names of the inputs.
    convert_map
        As the model was imported with.

    Attributes
    ----------
    module, nodes, unjudged
        As in ``FrameworkGraph``.
    """

    def __init__(
        self,
        original: onnx.ModelProto,
        folded: Folded,
        feeds: Mapping[str, Array],
        convert_map: Mapping[str, Converter],
    ) -> None:
        self._original = original
        self._folded = folded
        self._model = folded.model
        self._feeds = dict(feeds)
        self._places = places_of(folded.model.graph)
        self._functions: dict[tuple[str, str], str] = {}
        self._importer = NodeImporter(folded, convert_map)
        self.unjudged: dict[str, str] = {}
        if original.ByteSize() > MOST_PROTO_BYTES:
            self.unjudged["the folding of constants"] = "onnxruntime takes 2 GB with more outputs"
        self._known: dict[bytes, str] = {}
        nodes = list(folded.model.graph.node)
        for node in nodes:
            self._import(node)
        self.module: tvm.IRModule = self._importer.module()
        self.nodes = len(nodes)

    def _import(self, node: onnx.NodeProto) -> None:
        if any(subgraphs(node)):
            self.unjudged[name_of(node)] = "it has branches, whose nodes are not judged alone"
            return
        kinds = [self._folded.types.get(name) for name in (*node.input, *node.output)]
        if any(kind and kind.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 for kind in kinds):
            self.unjudged[name_of(node)] = "onnxruntime gives no bfloat16 to NumPy"
            return
        for name in node.output:
            if not name:
                continue
            key = self._key(node, name)
            try:
                if key not in self._known:
                    function = f"node_{self._place(node)}_{len(self._known)}"
                    self._importer.add(function, node, name)
                    self._known[key] = function
                self._functions[(name_of(node), name)] = self._known[key]
            except Exception as error:  # Of whatever a converter raises.
                self.unjudged[name_of(node)] = error_line(error)

    def _key(self, node: onnx.NodeProto, output: str) -> bytes:
        """Return what decides the Relax of an output of a node."""
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.name = plain.doc_string = ""
        del plain.input[:], plain.output[:]
        parts = [plain.SerializeToString(), bytes(str(list(node.output).index(output)), "ascii")]
        first: dict[str, int] = {}
        for name in node.input:
            kind = self._folded.types.get(name)
            parts.append(b"" if kind is None else kind.SerializeToString())
            parts.append(bytes(str(first.setdefault(name, len(first)) if name else -1), "ascii"))
            if name in self._importer.constants:
                parts.append(np.ascontiguousarray(self._importer.constants[name]).tobytes())
        return b"\0".join(parts)

    def _place(self, node: onnx.NodeProto) -> str:
        text = self._places[first_output(node)].node
        return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)

    def calls(self, *, is_whole: bool = False) -> Iterator[NodeCall]:
        """Run the graph in onnxruntime; yield a call for each tensor that a node computes.

        Before these comes a value that folding got wrong, if there is one.
        """
        if self._original.ByteSize() <= MOST_PROTO_BYTES:
            wrong = first_wrong_value(self._original, self._folded, self._feeds)
            if wrong is not None:
                yield self._folded_call(wrong)
        wide_runs = None
        if is_whole:
            wide = Wide(self._model, self._folded.dtypes)
            wide_runs = node_runs(self._model, self._feeds, wide.run)
        names = {first_output(node) for node in self._model.graph.node}
        for run in node_runs(self._model, self._feeds):
            accurate = next(wide_runs, None) if wide_runs is not None else None
            if first_output(run.node) not in names:
                continue
            for name, expected in run.outputs.items():
                function = self._functions.get((name_of(run.node), name))
                if function is not None:
                    yield self._call(run, name, expected, function, accurate)

    def _folded_call(self, wrong: FoldedValue) -> NodeCall:
        value = wrong.value
        nodes = len(self._original.graph.node)
        version = opset_of(self._original, value.node.domain)
        became = "a constant" if wrong.is_constant else "other nodes"
        return NodeCall(
            node=GraphNode(
                name=name_of(value.node),
                operator=operator_of(value.node),
                module=places_of(self._original.graph)[first_output(value.node)].module,
                source=f"node {value.place + 1} of {nodes} in the file, opset {version}",
            ),
            value=value.name,
            call=f"{operator_of(value.node)}, which folding made {became}",
            expected=(wrong.expected,),
            accurate=lambda: [wrong.expected],
            got=(wrong.got,),
            files=lambda _allowed, _stem: {},
        )

    def _call(
        self, run: NodeRun, name: str, expected: Array, function: str, whole: NodeRun | None
    ) -> NodeCall:
        inputs = tuple(run.inputs[one] for one in self._importer.arguments(run.node))
        node = self._graph_node(run.node)
        text = _call_text(run)
        return NodeCall(
            node=node,
            value=self._places[name].node,
            call=text,
            function=function,
            inputs=inputs,
            expected=(expected,),
            accurate=self._accurate(run, name, whole),
            files=lambda allowed, stem: node_script(
                run,
                name,
                opsets=list(self._model.opset_import),
                constants={
                    one: self._importer.constants[one]
                    for one in run.inputs
                    if one in self._importer.constants
                },
                module=self._importer.module(function),
                function=function,
                arguments=self._importer.arguments(run.node),
                node=node,
                call=text,
                allowed=allowed,
                stem=stem,
            ),
        )

    def _accurate(
        self, run: NodeRun, name: str, whole: NodeRun | None
    ) -> Callable[[], list[Array]]:
        if whole is not None and name in whole.outputs:
            return lambda: [whole.outputs[name]]

        def alone() -> list[Array]:
            wide = Wide(self._model, self._folded.dtypes)
            found = wide.run(run.node, dict(run.inputs))
            if wide.narrow:
                raise RuntimeError(f"onnxruntime has no {operator_of(run.node)} of float64")
            return [found[list(run.node.output).index(name)]]

        return alone

    def _graph_node(self, node: onnx.NodeProto) -> GraphNode:
        names = [first_output(one) for one in self._model.graph.node]
        place = names.index(first_output(node)) + 1
        version = opset_of(self._model, node.domain)
        return GraphNode(
            name=name_of(node),
            operator=operator_of(node),
            module=self._places[first_output(node)].module,
            source=f"node {place} of {len(names)}, opset {version}",
        )


def _call_text(run: NodeRun) -> str:
    given = [_value_text(name, run.inputs[name]) if name else "none" for name in run.node.input]
    given += [
        f"{printable(name)}={_attribute_text(value)}"
        for name, value in attributes_of(run.node).items()
    ]
    return f"{operator_of(run.node)}({', '.join(given)})"


def _value_text(name: str, array: Array) -> str:
    kind = type_text(
        onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)
        )
    )
    shown = array.reshape(-1)[:_SHOWN].tolist()
    numbers = ", ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in shown)
    more = ", ..." if array.size > _SHOWN else ""
    return f"{printable(name)}: {kind} = {numbers}{more}"


def _attribute_text(value: Any) -> str:
    if isinstance(value, bytes):
        return printable(value.decode(errors="replace"))
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_attribute_text, value))}]"
    if isinstance(value, onnx.TensorProto):
        return "a tensor"
    return printable(str(value))
