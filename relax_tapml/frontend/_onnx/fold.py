"""Gives inputs their sizes, infers types node by node, and folds what constants decide.

TVM's importer needs numbers where ONNX allows arithmetic on shapes: in ``Reshape``, ``Slice``,
``Expand``, ``Resize``, ``If``. With sizes given, most of that is constant. Nodes keep their names,
none is fused, and values that are computed here are computed by onnxruntime.
"""

from __future__ import annotations

import contextlib
from collections import ChainMap
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend._graph_inputs import GraphInput
from relax_tapml.frontend._onnx.nodes import (
    STANDARD,
    Types,
    described,
    dtype_of,
    graph_attribute,
    name_of,
    opset_of,
    shape_of,
    static_shape,
    subgraphs,
    tensor_type,
)
from relax_tapml.frontend._onnx.runtime import run_node
from relax_tapml.printable import message_line

MOST_VALUES = 1 << 14
"""Of arrays that are folded: shapes, indices and scalars, but no weights."""
_KEPT = {"DequantizeLinear", "QuantizeLinear"}
"""Quantised weights stay as they are in the file."""
_RANDOM = {
    *("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike"),
    *("RandomUniform", "RandomUniformLike"),
}


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A graph whose inputs have their sizes.

    Parameters
    ----------
    model
        The rest of the graph. Constants are initializers; an ``If`` whose condition is constant is
        replaced by the nodes of its branch, whose values are named ``IF/NAME``.
    types
        Types of the values of the graph and of its subgraphs, as far as ONNX can infer them.
    constants
        The values of small constants by name.
    decided
        The values that folding computed, by name; also those that no node of the rest reads.
    notes
        Sentences on branches that cannot run with these sizes.
    """

    model: onnx.ModelProto
    types: Types
    constants: dict[str, Array]
    decided: dict[str, Array]
    notes: tuple[str, ...]

    @property
    def dtypes(self) -> dict[str, str]:
        """Dtypes of the values that are tensors of numbers, by name."""
        found = {}
        for name, kind in self.types.items():
            with contextlib.suppress(ValueError):
                found[name] = dtype_of(kind.tensor_type.elem_type)
        return found


@dataclass(kw_only=True)
class _Scope:
    """What is known of the values that nodes can see."""

    types: MutableMapping[str, onnx.TypeProto]
    constants: MutableMapping[str, Array]
    tensors: MutableMapping[str, onnx.TensorProto]
    made: list[onnx.TensorProto] = field(default_factory=list)
    """Initializers of this graph that are new."""

    def inner(self) -> _Scope:
        """Return the scope of a subgraph, which sees this one."""
        return _Scope(
            types=ChainMap({}, self.types),
            constants=ChainMap({}, self.constants),
            tensors=ChainMap({}, self.tensors),
        )

    def keep(self, name: str, array: Array) -> None:
        """Make a value a constant."""
        self.types[name] = tensor_type(array.dtype, array.shape)
        self.constants[name] = array
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        del tensor.dims[:]
        tensor.dims.extend(array.shape)
        self.tensors[name] = tensor
        self.made.append(tensor)


def fold(
    model: onnx.ModelProto, inputs: Sequence[GraphInput], sizes: dict[str, int], label: str
) -> Folded:
    """Return a model's graph for inputs of given sizes.

    Parameters
    ----------
    model
        Not changed.
    inputs
        Of the model.
    sizes
        Of the dimensions that have one size; others stay symbols.
    label
        The model's name, for errors.

    Raises
    ------
    UsageError
        The model cannot have inputs of these sizes.
    """
    return _Folder(model, label).fold(inputs, sizes)


class _Folder:
    def __init__(self, model: onnx.ModelProto, label: str) -> None:
        self._model = model
        self._label = label
        self._opsets = list(model.opset_import)
        self._versions = {item.domain: item.version for item in model.opset_import}
        self._all_types: Types = {}
        self._notes: list[str] = []
        self._taken = _all_names(model.graph)

    def fold(self, inputs: Sequence[GraphInput], sizes: dict[str, int]) -> Folded:
        scope = _Scope(types={}, constants={}, tensors={})
        for one in inputs:
            scope.types[one.name] = tensor_type(one.dtype, _dims(one, sizes))
            self._keep_empty(one.name, scope.types[one.name], scope)
        graph = self._graph(self._model.graph, scope)
        del graph.input[:]
        for one in inputs:
            graph.input.append(onnx.helper.make_value_info(one.name, scope.types[one.name]))
        _remove_unused(graph)
        model = onnx.ModelProto()
        model.ir_version = self._model.ir_version
        model.opset_import.extend(self._opsets)
        model.graph.CopyFrom(graph)
        constants = {
            tensor.name: scope.constants[tensor.name]
            for tensor in graph.initializer
            if tensor.name in scope.constants
        }
        return Folded(
            model=model,
            types=self._all_types,
            constants=constants,
            decided=self._decided(scope),
            notes=tuple(self._notes),
        )

    def _decided(self, scope: _Scope) -> dict[str, Array]:
        computed = {name for node in self._model.graph.node for name in node.output}
        return {name: array for name, array in scope.constants.items() if name in computed}

    def _graph(self, graph: onnx.GraphProto, scope: _Scope) -> onnx.GraphProto:
        kept = []
        for tensor in graph.initializer:
            scope.types[tensor.name] = onnx.helper.make_tensor_type_proto(
                tensor.data_type, list(tensor.dims)
            )
            if prod(tensor.dims) <= MOST_VALUES:
                array = _array(tensor)
                if array is not None:
                    scope.constants[tensor.name] = array
                    scope.tensors[tensor.name] = tensor
            kept.append(tensor)
        nodes = self._nodes(graph.node, scope)
        new = onnx.GraphProto(name=graph.name)
        new.node.extend(nodes)
        new.initializer.extend([*kept, *scope.made])
        new.input.extend(graph.input)
        for output in graph.output:
            kind = scope.types.get(output.name, output.type)
            new.output.append(onnx.helper.make_value_info(output.name, kind))
        self._all_types.update(scope.types)
        return new

    def _nodes(self, nodes: Iterable[onnx.NodeProto], scope: _Scope) -> list[onnx.NodeProto]:
        left: list[onnx.NodeProto] = []
        for node in nodes:
            if self._is_folded(node, scope):
                continue
            if node.op_type == "If" and node.domain in STANDARD:
                left.extend(self._branches(node, scope))
                continue
            self._infer(node, scope)
            if all(name in scope.constants for name in node.output if name):
                continue
            left.append(node)
        return left

    def _is_folded(self, node: onnx.NodeProto, scope: _Scope) -> bool:
        """Make the outputs of a node constants, if its inputs decide them."""
        if node.domain not in STANDARD or node.op_type in _RANDOM | _KEPT or any(subgraphs(node)):
            return False
        if node.op_type in ("Shape", "Size"):
            shape = static_shape(scope.types.get(node.input[0]))
            if shape is not None:
                scope.keep(node.output[0], _shape_value(node, shape))
                return True
        if node.op_type == "Constant" and self._is_constant(node, scope):
            return True
        names = [name for name in node.input if name]
        if any(name not in scope.constants for name in names):
            return False
        if not names and node.op_type != "Constant":
            return False
        trial = _Scope(types=dict(scope.types), constants={}, tensors=scope.tensors)
        self._infer(node, trial)
        for name in node.output:
            shape = static_shape(trial.types.get(name))
            if shape is None or prod(shape) > MOST_VALUES:
                return False
        arrays = {name: scope.constants[name] for name in names}
        if any(array.dtype.kind not in "biuf" for array in arrays.values()):
            return False
        found = run_node(node, arrays, self._opsets)
        if found is None:
            return False
        for name, value in zip((name for name in node.output if name), found, strict=True):
            scope.keep(name, value)
        return True

    def _is_constant(self, node: onnx.NodeProto, scope: _Scope) -> bool:
        attribute = next(iter(node.attribute), onnx.AttributeProto())
        if attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            scope.types[tensor.name] = onnx.helper.make_tensor_type_proto(
                tensor.data_type, list(tensor.dims)
            )
            if prod(tensor.dims) <= MOST_VALUES:
                array = _array(tensor)
                if array is None:
                    return False
                scope.constants[tensor.name] = array
                scope.tensors[tensor.name] = tensor
            scope.made.append(tensor)
            return True
        kinds: dict[str, Any] = {"value_int": np.int64, "value_ints": np.int64}
        kinds |= {"value_float": np.float32, "value_floats": np.float32}
        if attribute.name not in kinds:
            return False
        value = onnx.helper.get_attribute_value(attribute)
        scope.keep(node.output[0], np.array(value, kinds[attribute.name]))
        return True

    def _branches(self, node: onnx.NodeProto, scope: _Scope) -> list[onnx.NodeProto]:
        """Return the nodes of the branch that is taken, or the ``If`` with folded branches.

        A constant decides; or only one of the branches can run with these sizes. Each is folded
        with what is known outside.
        """
        condition = scope.constants.get(node.input[0])
        if condition is not None:
            taken = "then_branch" if condition.reshape(-1)[0] else "else_branch"
            return self._inlined(node, graph_attribute(node, taken), scope)
        folded: dict[str, onnx.GraphProto] = {}
        errors: dict[str, UsageError] = {}
        for name in ("then_branch", "else_branch"):
            try:
                folded[name] = self._graph(graph_attribute(node, name), scope.inner())
            except UsageError as error:
                errors[name] = error
        if len(errors) == 2:
            raise errors["then_branch"]
        for name in errors:
            self._notes.append(
                f"{name} of node '{name_of(node)}' cannot run with these sizes, so the other "
                "branch is imported alone"
            )
            return self._inlined(node, graph_attribute(node, *folded), scope)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for attribute in new.attribute:
            graph = folded[attribute.name]
            _remove_unused(graph)
            attribute.g.CopyFrom(graph)
        outputs = [[output.type for output in graph.output] for graph in folded.values()]
        for outer, first, second in zip(node.output, *outputs, strict=True):
            scope.types[outer] = _common(first, second)
        return [new]

    def _inlined(
        self, node: onnx.NodeProto, graph: onnx.GraphProto, scope: _Scope
    ) -> list[onnx.NodeProto]:
        """Return a branch's nodes, with names that no other branch has."""
        prefix = name_of(node)
        renamed = dict(zip((one.name for one in graph.output), node.output, strict=False))
        own = {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output if name}
        # An output may be a value of the scope outside, or be returned twice.
        repeated = [
            (one.name, outer)
            for one, outer in zip(graph.output, node.output, strict=True)
            if outer and (one.name not in own or renamed[one.name] != outer)
        ]
        names = {
            name: renamed.get(name) or self._new_name(f"{prefix}/{name}") for name in sorted(own)
        }
        for tensor in graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = names[tensor.name]
            scope.types[copy.name] = onnx.helper.make_tensor_type_proto(
                tensor.data_type, list(tensor.dims)
            )
            array = _array(copy) if prod(copy.dims) <= MOST_VALUES else None
            if array is not None:
                scope.constants[copy.name] = array
                scope.tensors[copy.name] = copy
            scope.made.append(copy)
        nodes = [_renamed(inner, names, prefix) for inner in graph.node]
        nodes += [
            onnx.helper.make_node("Identity", [names.get(inner, inner)], [outer])
            for inner, outer in repeated
        ]
        return self._nodes(nodes, scope)

    def _new_name(self, wanted: str) -> str:
        """Return a name that no value of the model has: what is wanted, or with a number."""
        found, number = wanted, 1
        while found in self._taken:
            number += 1
            found = f"{wanted}#{number}"
        self._taken.add(found)
        return found

    def _infer(self, node: onnx.NodeProto, scope: _Scope) -> None:
        """Add the types of a node's outputs, as far as they can be inferred."""
        domain = "" if node.domain in STANDARD else node.domain
        version = self._versions.get(node.domain, self._versions.get("", 1))
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            return
        names = {name for name in node.input if name}
        for inner in subgraphs(node):
            names |= _seen(inner)
        types = {name: scope.types[name] for name in names if name in scope.types}
        if any(name and name not in types for name in node.input):
            return
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                types,
                {name: scope.tensors[name] for name in node.input if name in scope.tensors},
                opset_imports=self._opsets,
                ir_version=self._model.ir_version,
            )
        except onnx.shape_inference.InferenceError as error:
            if not all(static_shape(types.get(name)) is not None for name in node.input if name):
                return
            raise self._unfit(node, scope, message_line(error, -1)) from error
        if node.op_type == "Reshape" and node.domain in STANDARD:
            before, after = (
                static_shape(kind) for kind in (types[node.input[0]], found[node.output[0]])
            )
            if before is not None and after is not None and prod(before) != prod(after):
                raise self._unfit(node, scope, f"{list(before)} cannot become {list(after)}")
        if node.op_type == "Resize" and node.domain in STANDARD:
            self._resize(node, found[node.output[0]], scope)
        for name, kind in found.items():
            if name and kind.WhichOneof("value"):
                scope.types[name] = kind
                self._keep_empty(name, kind, scope)

    def _resize(self, node: onnx.NodeProto, kind: onnx.TypeProto, scope: _Scope) -> None:
        """Round sizes as onnxruntime does, in float32: ONNX infers 6 for 5 times 1.4."""
        at = 2 if opset_of(self._model) >= 11 else 1
        name = node.input[at] if len(node.input) > at else ""
        before = static_shape(scope.types[node.input[0]])
        scales = scope.constants.get(name)
        if before is None or scales is None or not scales.size:
            return
        axes = next((a.ints for a in node.attribute if a.name == "axes"), range(len(before)))
        for axis, scale in zip(axes, scales, strict=True):
            size = int(np.floor(np.float32(before[axis]) * np.float32(scale)))
            kind.tensor_type.shape.dim[axis].dim_value = size

    def _keep_empty(self, name: str, kind: onnx.TypeProto, scope: _Scope) -> None:
        """Make a tensor without elements a constant: TVM leaves sums of nothing unwritten."""
        shape = static_shape(kind)
        if shape is not None and 0 in shape:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
            scope.keep(name, np.empty(shape, dtype))

    def _unfit(self, node: onnx.NodeProto, scope: _Scope, reason: str) -> UsageError:
        opset = opset_of(self._model, node.domain)
        return UsageError(
            f"{self._label} cannot have inputs of these sizes: "
            f"{described(node, opset, scope.types)}: {reason}. Give other sizes with "
            "--dim NAME=VALUE, or other inputs."
        )


def _dims(one: GraphInput, sizes: dict[str, int]) -> list[int | str | None]:
    """Return numbers where all names have a size, else the text of the dimension."""
    return [
        dim
        if isinstance(dim, int)
        else int(dim.size(sizes))
        if all(name in sizes for name in dim.names)
        else dim.text
        for dim in one.dims
    ]


def _shape_value(node: onnx.NodeProto, shape: tuple[int, ...]) -> Array:
    if node.op_type == "Size":
        return np.array(prod(shape), np.int64)
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], np.int64)


def _array(tensor: onnx.TensorProto) -> Array | None:
    """Return a tensor's value; None if NumPy has no dtype for it."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return None
    try:
        array: Any = onnx.numpy_helper.to_array(tensor)
    except (TypeError, ValueError):
        return None
    return np.asarray(array).reshape(tuple(tensor.dims))


def _common(first: onnx.TypeProto, second: onnx.TypeProto) -> onnx.TypeProto:
    """Return what two branches agree on."""
    if first == second:
        return first
    one, other = shape_of(first), shape_of(second)
    kind = first.tensor_type.elem_type
    if one is None or other is None or len(one) != len(other):
        return onnx.helper.make_tensor_type_proto(kind, None)
    dims = [a if a == b else None for a, b in zip(one, other, strict=True)]
    return onnx.helper.make_tensor_type_proto(kind, dims)


def _renamed(node: onnx.NodeProto, names: dict[str, str], prefix: str) -> onnx.NodeProto:
    """Return a node of a subgraph with other names for values, in its own subgraphs, too."""
    new = onnx.NodeProto()
    new.CopyFrom(node)
    new.name = f"{prefix}/{name_of(node)}"
    new.input[:] = [names.get(name, name) for name in node.input]
    new.output[:] = [names.get(name, name) for name in node.output]
    for inner in subgraphs(new):
        _rename_outer(inner, names)
    return new


def _rename_outer(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename the values that a subgraph takes from outside."""
    own = {tensor.name for tensor in graph.initializer} | {one.name for one in graph.input}
    own |= {name for node in graph.node for name in node.output}
    outer = {name: new for name, new in names.items() if name not in own}
    for node in graph.node:
        node.input[:] = [outer.get(name, name) for name in node.input]
        for inner in subgraphs(node):
            _rename_outer(inner, outer)
    for output in graph.output:
        output.name = outer.get(output.name, output.name)


def _seen(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all values that a graph reads, its own and those from outside."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names |= set(node.input)
        for inner in subgraphs(node):
            names |= _seen(inner)
    return names


def _all_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all values in a graph and its subgraphs."""
    names = {one.name for one in (*graph.input, *graph.output, *graph.initializer)}
    names |= {sparse.values.name for sparse in graph.sparse_initializer}
    for node in graph.node:
        names |= {*node.input, *node.output}
        for inner in subgraphs(node):
            names |= _all_names(inner)
    return names


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that no output needs."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= {name for name in node.input if name}
            for inner in subgraphs(node):
                needed |= _seen(inner)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.name in needed}
    values = list(tensors.values())
    del graph.initializer[:]
    graph.initializer.extend(values)
