"""Imports a folded graph node by node with TVM's converters, and reports what they get wrong.

Each result is compared with the dtype and shape that ONNX infers, so that what a converter gets
wrong in these is an error that names the node. Wrong values of the right type are found later, by
the comparison with onnxruntime.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.frontend.onnx import onnx_frontend

from relax_tapml._compat import Constant
from relax_tapml.arrays import Array
from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend._graph_inputs import GraphInput
from relax_tapml.frontend._onnx.contents import Content, as_content, content_of, is_number
from relax_tapml.frontend._onnx.converters import CONVERTERS, DOUBTS, WRONG
from relax_tapml.frontend._onnx.fold import Folded
from relax_tapml.frontend._onnx.nodes import (
    STANDARD,
    all_nodes,
    attributes_of,
    described,
    dtype_of,
    first_output,
    graph_attribute,
    name_of,
    operator_of,
    opset_of,
    shape_of,
    static_shape,
    type_text,
)
from relax_tapml.frontend._onnx.onnx_call import Converter, OnnxCall
from relax_tapml.passes.keep_origins import give_origins
from relax_tapml.passes.origin import Origin
from relax_tapml.passes.submodule import submodule
from relax_tapml.printable import message_line, names_text, printable

_PARAMETER_VALUES = 256
"""Smaller initializers are constants: scales, axes, slopes, which converters want to read."""
_TAKE_SHAPES = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Reshape": (1,),
    "Resize": (3,),
    "Slice": (1, 2),
    "Tile": (1,),
}
"""The inputs that may be shapes, with symbolic dimensions, by operator."""
_MICROSOFT = {
    *("AllClassNMS", "Attention", "BiasGelu", "EmbedLayerNormalization", "FastGelu", "Gelu"),
    *("MatMulInteger16", "SkipLayerNormalization"),
}
"""What TVM's converters take from the domain of onnxruntime's own operators."""
_NOT_TENSORS = re.compile(r"Sequence|Optional|(Split|Concat)\w*Sequence")
_NAMED_AT_MOST = 8
_HARMLESS = {("broadcast", 1), ("is_test", 1)}
"""Old attributes that say what is always so now."""
_NEWER = 13
"""The opset from which on operators take axes and shapes as inputs."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Relax of a graph.

    Parameters
    ----------
    module
        With a function ``main``, whose parameters are the inputs followed by the weights.
    params
        Weights by the name of their parameter.
    """

    module: tvm.IRModule
    params: dict[str, Array]


def known_operators() -> set[str]:
    """Return the operators of ONNX's domain that can be imported, and are imported rightly."""
    stock = set(onnx_frontend._get_convert_map()) - _MICROSOFT | {"Gelu", "If", "Constant"}
    return (stock - WRONG.keys()) | {name for name in CONVERTERS if "::" not in name}


def check_operators(model: onnx.ModelProto, folded: Folded, own: Iterable[str], label: str) -> None:
    """Check that every node can be imported.

    Raises
    ------
    LoweringError
        Some cannot: all of their operators are listed, with a node of each.
    """
    known, given = known_operators(), set(own)
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in all_nodes(folded.model.graph):
        operator = operator_of(node)
        is_known = operator in given or operator in CONVERTERS
        if node.domain in STANDARD:
            is_known = is_known or operator in known
        elif node.domain == "com.microsoft":
            is_known = is_known or node.op_type in _MICROSOFT
        if not is_known or (_NOT_TENSORS.match(node.op_type) and operator not in given):
            found.setdefault(operator, []).append(node)
    if not found:
        return
    lines = []
    for operator, nodes in found.items():
        first = described(nodes[0], opset_of(model, nodes[0].domain), folded.types)
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        why = WRONG.get(operator, "")
        if _NOT_TENSORS.match(operator):
            why = "its values are sequences or optional, and Relax has tensors only"
        lines.append(f"  {first}{more}" + (f": {why}" if why else ""))
    raise LoweringError(
        f"{label} has {len(found)} operator{'s' if len(found) > 1 else ''} that cannot be "
        f"imported: {names_text(list(found), _NAMED_AT_MOST)}.\n" + "\n".join(lines) + "\n"
        "Export the model with other operators, or give converters: "
        f"from_onnx(..., convert_map={{'{next(iter(found))}': ...}})"
    )


def import_graph(
    folded: Folded,
    inputs: Sequence[GraphInput],
    sizes: Mapping[str, int],
    convert_map: Mapping[str, Converter],
    label: str,
) -> Imported:
    """Return Relax of a folded graph.

    Parameters
    ----------
    folded
        The graph; all of its operators are known.
    inputs, sizes
        Of the graph: sizes of the dimensions that have one size, others become symbols.
    convert_map
        Converters by operator, in place of others.
    label
        The model's name, for errors.

    Raises
    ------
    LoweringError
        A converter raises, or its result has another dtype or shape than ONNX infers.
    """
    importer = _Importer(folded, convert_map, label)
    return importer.run(inputs, sizes)


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer with one Relax variable for each value, and checks after each node."""

    def __init__(self, folded: Folded, convert_map: Mapping[str, Converter], label: str) -> None:
        super().__init__({}, None)
        self._nodes: dict[str, Any] = {}
        self.opset = opset_of(folded.model)
        self.bb: Any = relax.BlockBuilder()
        self.origins: dict[relax.Var, list[Origin]] = {}
        self._folded = folded
        self._given = convert_map
        self._map = {**CONVERTERS, **convert_map}
        self._label = label
        self._places = places_of(folded.model.graph)
        self._count = sum(1 for _ in all_nodes(folded.model.graph))
        self._made = 0
        self._taken: set[str] = set()
        self._contents: dict[str, Content] = {}

    def run(self, inputs: Sequence[GraphInput], sizes: Mapping[str, int]) -> Imported:
        graph = self._folded.model.graph
        given = self._inputs_as_variables(inputs, sizes)
        arrays = self._take_initializers(graph)
        weights = [self._nodes[name] for name in arrays]
        with self.bb.function("main", params=[*given, *weights]):
            self._take_nodes(graph.node)
            outputs = [self._output(one.name) for one in graph.output]
            self.bb.emit_func_output(relax.Tuple(outputs))
        module = give_origins(self.bb.get(), self.origins)
        main = module.get_global_var("main")
        module.update_func(main, module[main].with_attr("num_input", len(given)))
        module = relax.transform.ConvertToDataflow(min_size=1)(module)
        return Imported(
            module=module,
            params={self._nodes[name].name: array for name, array in arrays.items()},
        )

    def add_function(
        self,
        function: str,
        node: onnx.NodeProto,
        output: str,
        arguments: Sequence[str],
        constants: Mapping[str, Array],
    ) -> None:
        """Add a function that returns an output of one node, to the builder's module."""
        self._nodes = {
            name: relax.const(array, array.dtype.name) for name, array in constants.items()
        }
        variables = []
        for at, name in enumerate(arguments):
            kind = self._folded.types[name]
            shape, dtype = static_shape(kind), dtype_of(kind.tensor_type.elem_type)
            if shape is None:
                raise ValueError(f"the shape of {name} is not known")
            variables.append(relax.Var(f"x{at}", relax.TensorType(shape, dtype)))
            self._nodes[name] = variables[-1]
        # With a builder of its own first: one that a converter leaves unfinished cannot go on.
        kept, self.bb = self.bb, relax.BlockBuilder()
        try:
            self._build(function, node, output, variables)
        finally:
            self.bb = kept
        self._build(function, node, output, variables)

    def _build(
        self, function: str, node: onnx.NodeProto, output: str, variables: list[relax.Var]
    ) -> None:
        outside = dict(self._nodes)
        with self.bb.function(function, params=variables):
            self._take_nodes([node])
            self.bb.emit_func_output(self._output(output))
        self._nodes = outside

    def _inputs_as_variables(
        self, inputs: Sequence[GraphInput], sizes: Mapping[str, int]
    ) -> list[relax.Var]:
        symbols: dict[str, Any] = dict(sizes)
        for one in inputs:
            for dim in one.dims:
                for name in () if isinstance(dim, int) else dim.names:
                    if name not in symbols:
                        symbols[name] = tirx.Var(self._identifier(name), "int64")
        for one in inputs:
            kind = relax.TensorType(list(one.shape(symbols)), one.dtype)
            self._nodes[one.name] = relax.Var(self._identifier(one.name), kind)
        return [self._nodes[one.name] for one in inputs]

    def _take_initializers(self, graph: onnx.GraphProto) -> dict[str, Array]:
        """Bind initializers; return those that become parameters, by their name in the graph."""
        params = {}
        for tensor in graph.initializer:
            array = _array(tensor)
            content = as_content(array)
            if content is not None:
                self._contents[tensor.name] = content
            if array.size < _PARAMETER_VALUES or self._is_inner(graph):
                self._nodes[tensor.name] = relax.const(array, array.dtype.name)
            else:
                kind = relax.TensorType(array.shape, array.dtype.name)
                name = self._identifier(tensor.name.removeprefix("onnx::"))
                self._nodes[tensor.name] = relax.Var(name, kind)
                self._params[name] = (self._nodes[tensor.name], tvm.runtime.tensor(array))
                params[tensor.name] = array
        return params

    def _is_inner(self, graph: onnx.GraphProto) -> bool:
        return graph is not self._folded.model.graph

    def _identifier(self, name: str) -> str:
        """Return a name that TVMScript, file names and messages take, and that is not taken."""
        base = re.sub(r"\W", "_", name, flags=re.ASCII)
        base = f"v_{base}" if not base or base[0].isdigit() else base
        found, number = base, 1
        while found in self._taken:
            number += 1
            found = f"{base}_{number}"
        self._taken.add(found)
        return found

    def _take_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            self._made += 1
            if self._is_known(node):
                continue
            try:
                values = self._converted(node)
                if len(values) < sum(1 for name in node.output if name):
                    raise ValueError(f"it has {len(values)} of {len(node.output)} outputs")
                for name, value in zip(node.output, values, strict=False):
                    if name:
                        self._bind(node, name, value)
            except LoweringError:
                raise
            except Exception as error:
                raise_machine_error(error, f"importing {self._label}")
                raise LoweringError(
                    f"TVM cannot import {self._described(node)} of {self._label}: "
                    f"{message_line(error, -1)}. {self._fix(node)}"
                ) from error

    def _converted(self, node: onnx.NodeProto) -> list[Any]:
        if node.op_type == "If" and node.domain in STANDARD:
            return self._branches(node)
        own = self._map.get(operator_of(node))
        inputs = onnx_frontend.onnx_input(
            [self._operand(name, node, at) for at, name in enumerate(node.input)]
        )
        attributes = attributes_of(node)
        call = OnnxCall(
            builder=self.bb,
            inputs=inputs,
            attributes=attributes,
            opset=opset_of(self._folded.model, node.domain),
            outputs=tuple(bool(name) for name in node.output),
            stock=lambda other=None: self._stock(node, inputs, other or {}),
        )
        if own is not None:
            result = own(call)
        else:
            doubt = DOUBTS[node.op_type](call) if node.op_type in DOUBTS else ""
            if doubt:
                raise ValueError(doubt)
            result = call.stock()
        if isinstance(result, tuple | list):
            return list(result)
        if isinstance(result, relax.Tuple):
            return list(result.fields)
        if isinstance(result, relax.Expr) and not isinstance(result, relax.ShapeExpr):
            result = self.bb.normalize(result)
            if isinstance(result.ty, relax.TupleType):
                whole = self.bb.emit(result)
                return [relax.TupleGetItem(whole, at) for at in range(len(whole.ty.fields))]
        return [result]

    def _stock(self, node: onnx.NodeProto, inputs: Any, other: Mapping[int, Any]) -> Any:
        given = [other.get(at, value) for at, value in enumerate(inputs)]
        inputs = onnx_frontend.onnx_input(given)
        _check_version(node, self.opset)
        attributes = attributes_of(node)
        attributes["tvm_custom"] = {"name": node.name, "num_outputs": len(node.output)}
        return self._convert_operator(node.op_type, inputs, attributes, self.opset)

    def _is_known(self, node: onnx.NodeProto) -> bool:
        """Keep the value of a node that computes with dimensions, if it is known before a run."""
        if len(node.output) != 1 or operator_of(node) in self._given:
            return False
        given = [self._contents.get(name) if name else None for name in node.input]
        data = self._nodes.get(node.input[0]) if node.input else None
        content = content_of(node, given, data)
        if content is None:
            return False
        name = node.output[0]
        self._contents[name] = content
        if is_number(content):
            dtype = self._dtype_of(name)
            self._nodes[name] = relax.const(content.astype(dtype), dtype)
        return True

    def _dtype_of(self, name: str) -> str:
        kind = self._folded.types.get(name)
        return "int64" if kind is None else dtype_of(kind.tensor_type.elem_type)

    def _operand(self, name: str, node: onnx.NodeProto, at: int) -> Any:
        if not name:
            return None
        content = self._contents.get(name)
        if content is not None and not is_number(content):
            if content.ndim == 1 and at in _TAKE_SHAPES.get(node.op_type, ()):
                return relax.ShapeExpr(list(content))
            if name not in self._nodes:
                return self._content_tensor(name)
        value = self._nodes[name]
        is_shape = isinstance(getattr(value, "ty", None), relax.ShapeType)
        return self._as_tensor(value) if is_shape else value

    def _content_tensor(self, name: str) -> Any:
        """Return what is known of dimensions as a tensor that is computed in a run."""
        content = self._contents[name]
        value = self._as_tensor(relax.ShapeExpr(list(content.reshape(-1))))
        if content.ndim != 1:
            value = self.bb.emit(relax.op.reshape(value, content.shape))
        if self._dtype_of(name) != "int64":
            value = self.bb.emit(relax.op.astype(value, self._dtype_of(name)))
        self._nodes[name] = value
        return value

    def _as_tensor(self, value: Any) -> Any:
        """Return a shape as a tensor of int64."""
        dims: list[Any] = list(value.values) if isinstance(value, relax.ShapeExpr) else [None]
        if all(isinstance(dim, tirx.IntImm) for dim in dims):
            return relax.const(np.array([int(dim) for dim in dims], np.int64))
        return self.bb.emit(relax.op.shape_to_tensor(value))

    def _branches(self, node: onnx.NodeProto) -> list[Any]:
        """Return the results of an ``If``: both branches are computed, and one is chosen.

        Operators of ONNX have no effects. ``relax.If`` is not used, because TVM 0.27 plans memory
        across its branches, so that one uses storage which only the other has allocated.
        """
        condition = self._operand(node.input[0], node, 0)
        if condition.ty.ndim != 0:
            condition = self.bb.emit(relax.op.reshape(condition, ()))
        branches = []
        for name in ("then_branch", "else_branch"):
            graph, outside = graph_attribute(node, name), dict(self._nodes)
            self._take_initializers(graph)
            self._take_nodes(graph.node)
            branches.append([self._output(one.name) for one in graph.output])
            self._nodes = outside
        results = []
        for number, (first, second) in enumerate(zip(*branches, strict=True)):
            if not tvm_ffi.structural_equal(first.ty, second.ty):
                raise ValueError(
                    f"output {number} is {first.ty} in one branch and {second.ty} in the other, "
                    "and both are computed"
                )
            results.append(relax.op.where(condition, first, second))
        return results

    def _bind(self, node: onnx.NodeProto, name: str, value: Any) -> None:
        """Give a value a variable of its own, and compare it with what ONNX infers."""
        is_plain = isinstance(value, relax.Var | relax.ShapeExpr | Constant)
        if isinstance(value, relax.Expr) and not is_plain:
            value = self.bb.emit(value)
            self.origins.setdefault(value, [self._places[first_output(node)]])
        kind = self._folded.types.get(name)
        difference = _difference(kind, value)
        if difference:
            raise LoweringError(
                f"TVM imports {self._described(node)} of {self._label} wrongly: output "
                f"'{printable(name)}': {difference}. {self._fix(node)}"
            )
        self._nodes[name] = value

    def _output(self, name: str) -> Any:
        if name not in self._nodes:
            return self._content_tensor(name)
        value = self._nodes[name]
        if isinstance(getattr(value, "ty", None), relax.ShapeType):
            return self._as_tensor(value)
        return value

    def _described(self, node: onnx.NodeProto) -> str:
        place = f"{self._made} of {self._count} nodes"
        return described(node, opset_of(self._folded.model, node.domain), self._folded.types, place)

    def _fix(self, node: onnx.NodeProto) -> str:
        shapes = [shape_of(self._folded.types.get(name)) for name in node.input if name]
        if any(shape is None or any(isinstance(dim, str) for dim in shape) for shape in shapes):
            return "Give each dimension one size, with --dim NAME=VALUE or inputs of one shape"
        return f"Give a converter: from_onnx(..., convert_map={{'{operator_of(node)}': ...}})"


class NodeImporter:
    """Imports single nodes of a graph, as the functions of one module.

    Attributes
    ----------
    constants
        The small initializers of the graph, which are constants in functions.
    """

    def __init__(self, folded: Folded, convert_map: Mapping[str, Converter]) -> None:
        self.constants: dict[str, Array] = {
            tensor.name: array
            for tensor in folded.model.graph.initializer
            if (array := _array(tensor)).size < _PARAMETER_VALUES
        }
        self._importer = _Importer(folded, convert_map, "the node")

    def arguments(self, node: onnx.NodeProto) -> list[str]:
        """Return the values that the function of a node takes."""
        names = dict.fromkeys(name for name in node.input if name)
        return [name for name in names if name not in self.constants]

    def add(self, function: str, node: onnx.NodeProto, output: str) -> None:
        """Add a function that returns an output of a node. Errors are those of the importer."""
        self._importer.add_function(function, node, output, self.arguments(node), self.constants)

    def module(self, function: str | None = None) -> tvm.IRModule:
        """Return all functions, or one of them, with what they call."""
        whole = relax.transform.ConvertToDataflow(min_size=1)(self._importer.bb.get())
        if function is None:
            return whole
        return submodule(whole, [function])


def places_of(graph: onnx.GraphProto) -> dict[str, Origin]:
    """Return the place of each value's node, with a name that no other node has.

    ``/encoder/layer.0/MatMul`` is node ``MatMul`` of module ``encoder.layer.0``; where several
    nodes end so, the third of them is called ``MatMul#3``.
    """
    paths = {
        first_output(node): name_of(node).replace(":", "_").strip("/").split("/")
        for node in all_nodes(graph)
    }
    shared = Counter(parts[-1] for parts in paths.values())
    seen: Counter[str] = Counter()
    found = {}
    for node in all_nodes(graph):
        parts = paths[first_output(node)]
        seen[parts[-1]] += 1
        name = parts[-1] if shared[parts[-1]] == 1 else f"{parts[-1]}#{seen[parts[-1]]}"
        place = Origin(module=".".join(parts[:-1]), node=name)
        found.update(dict.fromkeys((one for one in node.output if one), place))
    return found


def _array(tensor: onnx.TensorProto) -> Array:
    return np.asarray(onnx.numpy_helper.to_array(tensor)).reshape(tuple(tensor.dims))


def _check_version(node: onnx.NodeProto, opset: int) -> None:
    """Refuse a node of an opset older than TVM's converter, if the operator has changed since.

    TVM takes the oldest converter that it has, which then looks for inputs or attributes that the
    node does not have.
    """
    converter = onnx_frontend._get_convert_map()[node.op_type]
    marks = [name for name in dir(converter) if name.startswith("_impl_v")]
    oldest = min((int(mark.removeprefix("_impl_v")) for mark in marks), default=0)
    if opset >= oldest or node.domain not in STANDARD:
        return
    old, new = (onnx.defs.get_schema(node.op_type, max(at, 1), "") for at in (opset, oldest))
    gone = [
        attribute.name
        for attribute in node.attribute
        if attribute.name not in new.attributes
        and (attribute.name, attribute.i) not in _HARMLESS
        and attribute != old.attributes[attribute.name].default_value
    ]
    if gone or not new.min_input <= len(node.input) <= new.max_input:
        raise ValueError(
            f"TVM converts it as of opset {oldest}, and in opset {opset} it had other "
            f"{'attributes' if gone else 'inputs'}; convert the model with "
            f"onnx.version_converter.convert_version(model, {max(oldest, _NEWER)})"
        )


def _difference(kind: onnx.TypeProto | None, value: Any) -> str:
    """Return how a Relax value differs from a type of ONNX, empty if it does not.

    Dimensions are compared if both are numbers.
    """
    ty = getattr(value, "ty", None)
    if kind is None or not kind.HasField("tensor_type") or not isinstance(ty, relax.TensorType):
        return ""
    dtype = dtype_of(kind.tensor_type.elem_type)
    if str(ty.dtype) != dtype:
        return f"expected {dtype}, got {ty.dtype}"
    shape = shape_of(kind)
    if shape is None:
        return ""
    if ty.ndim not in (-1, len(shape)):
        return f"expected {len(shape)} dimensions, got {ty.ndim}"
    if isinstance(ty.shape, relax.ShapeExpr):
        for want, got in zip(shape, ty.shape.values, strict=True):
            if isinstance(want, int) and isinstance(got, tirx.IntImm) and want != int(got):
                text = str(ty.shape).removeprefix("R.shape(").removesuffix(")")
                return f"expected {type_text(kind)}, got {text}"
    return ""
