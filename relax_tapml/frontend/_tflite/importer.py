"""Imports the main subgraph operator by operator with TVM's converters, and checks their types.

The results are compared with the dtypes of the file and the shapes that the interpreter has given
the tensors. Wrong values of the right type are found later, by the comparison with the interpreter.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.relax.frontend.tflite import tflite_frontend

from relax_tapml._compat import Constant
from relax_tapml.arrays import Array
from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend._tflite.converters import CONVERTERS, QUANTIZED
from relax_tapml.frontend._tflite.interface import Interface
from relax_tapml.frontend._tflite.known_values import known_values
from relax_tapml.frontend._tflite.operators import (
    Operator,
    dtype_of,
    operators_of,
    shape_of,
    tensor_name,
)
from relax_tapml.frontend._tflite.runtime import Run
from relax_tapml.frontend._tflite.view import SubgraphView
from relax_tapml.passes.keep_origins import give_origins
from relax_tapml.passes.origin import Origin
from relax_tapml.printable import error_line, printable

_PARAMETER_VALUES = 256
"""Smaller tensors are constants: scales, axes, slopes."""
_NAMED_AT_MOST = 8
_STATE = "relax_tapml"
"""The key of ``_Import`` in what TVM's importer hands from one subgraph to the next."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Relax of a model.

    Parameters
    ----------
    module
        With a function ``main``, whose parameters are the inputs followed by the weights.
    params
        Weights by the name of their parameter.
    """

    module: tvm.IRModule
    params: dict[str, Array]


def known_operators() -> tuple[frozenset[str], frozenset[str]]:
    """Return the operators with a converter, and those whose converter takes quantised tensors."""
    # The map of converters is made by an instance, which looks at none of its arguments.
    stock = tflite_frontend.OperatorConverter(None, None, None, None)
    quantized = QUANTIZED | stock._SUPPORTED_QUANTIZED_OPS
    markers = {"DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
    return frozenset(stock.convert_map) - markers, quantized


def import_graph(model: Any, interface: Interface, run: Run, label: str) -> Imported:
    """Return Relax of the main subgraph.

    Parameters
    ----------
    model
        A ``tflite.Model``; all of its operators are known.
    interface
        Of the model.
    run
        Of the interpreter, with the values of all tensors.
    label
        The model's name, for errors.

    Raises
    ------
    LoweringError
        Converters raise, or their results have other dtypes or shapes than in TFLite; all of them
        are listed.
    """
    graph = SubgraphView(model.Subgraphs(0), run.shapes)
    names = _Names()
    table = _Table(names)
    builder = relax.BlockBuilder()
    state = _Import(known=known_values(model, run.values))
    inputs = []
    for one, at in zip(interface.inputs, interface.tensors, strict=True):
        kind = relax.TensorType(shape_of(graph.Tensors(at)), one.dtype)
        inputs.append(relax.Var(names.take(one.name), kind))
        table.set_expr(tflite_frontend.get_tensor_name(graph, at), inputs[-1])
    with builder.function("main"):
        with builder.dataflow():
            converter = _Converter(model, graph, table, builder, {_STATE: state})
            converter.convert_op_to_relax()
            outputs = [
                converter.get_tensor_expr(tensor)
                for tensor in converter.get_tensors(list(interface.outputs))
            ]
            result = builder.emit_output(relax.Tuple(outputs))
        builder.emit_func_output(result, [*inputs, *table.weights.values()])
    _require(state.faults, label)
    module = give_origins(builder.get(), state.origins)
    main = module.get_global_var("main")
    module.update_func(main, module[main].with_attr("num_input", len(inputs)))
    return Imported(module=module, params=table.arrays)


@dataclass(frozen=True)
class _Import:
    """What the converters of all subgraphs find.

    Parameters
    ----------
    known
        Values of the main subgraph that no input decides, by the number of the tensor.
    faults
        Operators that could not be converted, each with the reason.
    origins
        The operator of each variable.
    """

    known: Mapping[int, Array]
    faults: list[str] = field(default_factory=list)
    origins: dict[relax.Var, list[Origin]] = field(default_factory=dict)


def _require(faults: list[str], label: str) -> None:
    if not faults:
        return
    shown = "\n".join(f"  {fault}" for fault in faults[:_NAMED_AT_MOST])
    more = f"\n  and {len(faults) - _NAMED_AT_MOST} more" if len(faults) > _NAMED_AT_MOST else ""
    raise LoweringError(
        f"TVM cannot import {len(faults)} operator{'s' if len(faults) > 1 else ''} of {label}:\n"
        f"{shown}{more}\nExport the model with other operators."
    )


class _Names:
    """Names that TVMScript, file names and messages take, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """Return a name that is not taken."""
        base = re.sub(r"\W", "_", name.split(";")[0], flags=re.ASCII).strip("_")
        base = f"v_{base}" if not base or base[0].isdigit() else base
        found, number = base, 1
        while found in self._taken:
            number += 1
            found = f"{base}_{number}"
        self._taken.add(found)
        return found


class _Table(tflite_frontend.ExprTable):  # type: ignore[misc]
    """TVM's table of values, with the larger constants as parameters.

    Parameters
    ----------
    names
        Of the parameters.
    least
        How many values a parameter has; smaller constants stay constants.

    Attributes
    ----------
    weights
        Parameters by their content.
    arrays
        Their values by name.
    """

    def __init__(self, names: _Names, *, least: int = _PARAMETER_VALUES) -> None:
        super().__init__()
        self._names = names
        self._least = least
        self.weights: dict[tuple[Any, ...], relax.Var] = {}
        self.arrays: dict[str, Array] = {}

    def new_const(
        self, value: Any, shape: Any = None, dtype: str = "float32", source_name: Any = None
    ) -> Any:
        """Return a constant; equal large ones are one parameter."""
        del shape
        array = np.asarray(value)
        if array.size < self._least:
            return relax.const(array, dtype)
        array = np.ascontiguousarray(array.astype(dtype, copy=False))
        key = (dtype, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self.weights:
            name = self._names.take(bytes(source_name or b"weight").decode(errors="replace"))
            self.weights[key] = relax.Var(name, relax.TensorType(array.shape, dtype))
            self.arrays[name] = array
        return self.weights[key]


class _Converter(tflite_frontend.OperatorConverter):  # type: ignore[misc]
    """TVM's converter with one Relax variable for each value, and checks after each operator."""

    def __init__(
        self, model: Any, subgraph: Any, table: Any, builder: Any, state: dict[str, Any]
    ) -> None:
        for key in ("lowered_subgraphs", "lowered_if_functions", "lowered_while_functions"):
            state.setdefault(key, {})
        state.setdefault("lowering_stack", [])
        if not isinstance(subgraph, SubgraphView):  # TVM makes converters of other subgraphs.
            subgraph = SubgraphView(subgraph, {})
        super().__init__(model, subgraph, table, builder, state)
        found: _Import = state[_STATE]
        self._found = found
        self._number = self._place_in_model()
        self._known = found.known if self._number == 0 else {}
        self.convert_map.update(
            {name: functools.partial(convert, self) for name, convert in CONVERTERS.items()}
        )

    def get_expr(self, input_tensor_idx: int) -> Any:
        """Return a value; many converters ask so for an operand that may be a constant."""
        if self.has_expr(input_tensor_idx):
            return super().get_expr(input_tensor_idx)
        return self.get_tensor_expr(self.get_tensors([input_tensor_idx])[0])

    def get_tensor_value(self, tensor_wrapper: Any, is_sparse: bool = False) -> Any:
        """Return the value of a constant, or of what is known before a run."""
        known = self._known.get(tensor_wrapper.tensor_idx)
        return super().get_tensor_value(tensor_wrapper, is_sparse) if known is None else known

    def check_unsupported_ops(self) -> None:
        """Do nothing: all operators were checked before."""

    def convert_op_to_relax(self) -> None:
        """Convert the operators in order; one that fails is noted, and the others go on."""
        operators = operators_of(self.model, self._number)
        places = places_of(self.subgraph, operators)
        for operator in operators:
            if operator.outputs and all(at in self._known for at in operator.outputs):
                continue
            try:
                self._convert(operator, places[operator.at])
            except Exception as error:
                raise_machine_error(error, "importing a TFLite model")
                text = f"{operator.described(self.subgraph)}: {error_line(error)}"
                self._found.faults.append(text)
                for at in operator.outputs:
                    self._set(at, self._blank(at))

    def _place_in_model(self) -> int:
        position = self.subgraph._tab.Pos
        every = range(self.model.SubgraphsLength())
        return next(at for at in every if self.model.Subgraphs(at)._tab.Pos == position)

    def _convert(self, operator: Operator, place: Origin) -> None:
        name = "DETECTION_POSTPROCESS" if operator.is_custom else operator.name
        result = self.convert_map[name](op=operator.raw)
        if result is None:  # It is known before a run: a weight, a handle of a state.
            return
        result = self.bb.normalize(result)
        if isinstance(result.ty, relax.TupleType):
            if not isinstance(result, relax.Tuple):
                result = self._emit(result, place)
            values = [result[number] for number in range(len(operator.outputs))]
        else:
            values = [result]
        if len(values) != len(operator.outputs):
            raise ValueError(f"it has {len(values)} of {len(operator.outputs)} outputs")
        for at, value in zip(operator.outputs, values, strict=True):
            value = self._emit(value, place)
            difference = self._difference(at, value)
            if difference:
                raise ValueError(
                    f"it is imported wrongly: output "
                    f"'{printable(tensor_name(self.subgraph, at))}': {difference}"
                )
            self._set(at, value)

    def _emit(self, value: Any, place: Origin) -> Any:
        value = self.bb.normalize(value)
        if isinstance(value, relax.Var | Constant | relax.ShapeExpr):
            return value
        variable = self.bb.emit(value)
        self._found.origins.setdefault(variable, [place])
        return variable

    def _set(self, at: int, value: Any) -> None:
        name = tflite_frontend.get_tensor_name(self.subgraph, at)
        self.exp_tab.set_expr(name, value, force_override=True)

    def _blank(self, at: int) -> Any:
        """Return a value of the type of an output, for the operators that read it."""
        tensor = self.subgraph.Tensors(at)
        return self.bb.emit(relax.op.zeros(shape_of(tensor), dtype_of(tensor)))

    def _difference(self, at: int, value: Any) -> str:
        """Return how a value differs from the tensor of TFLite, empty if it does not."""
        tensor, ty = self.subgraph.Tensors(at), value.ty
        if not isinstance(ty, relax.TensorType):
            return f"expected a tensor, got {ty}"
        dtype = dtype_of(tensor)
        if str(ty.dtype) != dtype:
            return f"expected {dtype}, got {ty.dtype}"
        shape = shape_of(tensor)
        if ty.ndim not in (-1, len(shape)):
            return f"expected {len(shape)} dimensions, got {ty.ndim}"
        if isinstance(ty.shape, relax.ShapeExpr):
            got = [int(dim) if isinstance(dim, tirx.IntImm) else dim for dim in ty.shape.values]
            for want, size in zip(shape, got, strict=True):
                if isinstance(size, int) and want >= 0 and want != size:
                    return f"expected shape {shape}, got {got}"
        return ""


class NodeImporter:
    """Imports single operators of the main subgraph, as functions of their own.

    Parameters
    ----------
    model
        A ``tflite.Model``.
    run
        Of the interpreter, with the values of all tensors.
    """

    def __init__(self, model: Any, run: Run) -> None:
        self._model = model
        self._graph = SubgraphView(model.Subgraphs(0), run.shapes)
        self._known = known_values(model, run.values)
        operators = operators_of(model, 0)
        self._written = {at for one in operators for at in one.outputs} - self._known.keys()
        self._written.update(self._graph.Inputs(at) for at in range(self._graph.InputsLength()))

    def is_known(self, operator: Operator) -> bool:
        """Whether an operator is not imported, because its results are known before a run."""
        return all(at in self._known for at in operator.outputs)

    def function(
        self, operator: Operator, place: Origin, output: int
    ) -> tuple[relax.Function, tuple[int, ...], tuple[Array, ...]]:
        """Return a function that computes an output; errors are those of the importer.

        Returns
        -------
        tuple
            The function, the numbers of the tensors that it takes, and the weights that it takes
            after them.
        """
        table = _Table(_Names(), least=2)
        builder = relax.BlockBuilder()
        inputs = tuple(at for at in dict.fromkeys(operator.inputs) if at in self._written)
        variables = []
        for number, at in enumerate(inputs):
            tensor = self._graph.Tensors(at)
            kind = relax.TensorType(shape_of(tensor), dtype_of(tensor))
            variables.append(relax.Var(f"x{number}", kind))
            table.set_expr(tflite_frontend.get_tensor_name(self._graph, at), variables[-1])
        with builder.function("main"):
            with builder.dataflow():
                state = {_STATE: _Import(known=self._known)}
                converter = _Converter(self._model, self._graph, table, builder, state)
                converter._convert(operator, place)
                result = builder.emit_output(converter.get_expr(output))
            builder.emit_func_output(result, [*variables, *table.weights.values()])
        module = builder.get()
        if len(module.functions) > 1:
            raise ValueError("it calls another subgraph, whose operators are not judged alone")
        return module["main"], inputs, tuple(table.arrays.values())


def places_of(graph: Any, operators: list[Operator]) -> list[Origin]:
    """Return the place of each operator, with a name that no other has.

    Operators have no names in TFLite: it is the first output's. ``encoder/dense/MatMul;add`` is
    node ``MatMul`` of module ``encoder.dense``; where several end so, the one whose operator has
    number 7 is called ``MatMul#7``.
    """
    paths = []
    for operator in operators:
        name = tensor_name(graph, operator.outputs[0]) if operator.outputs else operator.name
        first = re.sub(r":\d+$", "", name.split(";")[0])
        paths.append(first.replace(":", "_").strip("/").split("/"))
    shared = Counter(parts[-1] for parts in paths)
    return [
        Origin(
            module=".".join(parts[:-1]),
            node=parts[-1] if shared[parts[-1]] == 1 else f"{parts[-1]}#{operator.at}",
        )
        for operator, parts in zip(operators, paths, strict=True)
    ]
