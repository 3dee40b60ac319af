"""Imports an exported PyTorch program and reports where the result differs from PyTorch.

TVM's importer has errors that raise no exception: a ``cumprod`` of booleans stays boolean, a
product of int32 stays in int32. So every converted node is compared with the dtype and shape that
PyTorch recorded for it. Wrong values of the right type are found later, by the comparison with
``Model.reference``. Errors that models meet are corrected in ``_torch_ops``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tvm
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from tvm import relax, tirx

from relax_tapml.errors import LoweringError, TapmlError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend._read_arguments import WatchedNode
from relax_tapml.frontend._torch_node import (
    converter_name,
    has_open_shape,
    is_complex,
    module_path,
    node_place,
    source_line,
)
from relax_tapml.frontend._torch_ops.importer import CorrectedImporter
from relax_tapml.passes.keep_origins import give_origins
from relax_tapml.passes.origin import Origin
from relax_tapml.printable import error_line, names_text

_CONVERTER = "Give a converter: convert_map"
_NAMED_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A program and what became of it.

    Parameters
    ----------
    program
        Decomposed.
    module
        Its function ``main`` keeps the program's parameters as arguments. Buffers are constants.
    values
        What each node of the program's graph became: an expression of ``main``, a number, or a
        sequence of these.
    """

    program: torch.export.ExportedProgram
    module: tvm.IRModule
    values: dict[torch.fx.Node, Any]


def import_program(
    program: torch.export.ExportedProgram, convert_map: dict[str, Callable[..., Any]], label: str
) -> Imported:
    """Import a program node by node.

    Parameters
    ----------
    program
        Decomposed here into the operators the importer knows.
    convert_map
        Converters by operator name, ``"cumsum.default"``, in place of the importer's.
    label
        The model's name, for errors.

    Raises
    ------
    UsageError
        An input or output is not a tensor, or the program writes to its buffers.
    LoweringError
        An operator has no converter, its converter raises, or a node or output has another dtype
        or shape than PyTorch recorded.
    """
    try:
        program = program.run_decompositions()
        _check_interface(program, label)
        importer = _CheckedImporter(label)
        module = importer.from_exported_program(
            program,
            keep_params_as_input=True,
            unwrap_unit_return_tuple=False,
            no_bind_return_tuple=False,
            custom_convert_map=convert_map,
        )
        module = give_origins(module, importer.origins)
    except TapmlError:
        raise
    except Exception as error:
        raise_machine_error(error, f"importing {label}")
        raise LoweringError(
            f"TVM cannot import {label}: {error_line(error)}. Give a converter for the "
            "operator with convert_map=."
        ) from error
    _check_outputs(program, module, label)
    return Imported(program=program, module=module, values=importer.env)


class _CheckedImporter(CorrectedImporter):
    """Compares each node with PyTorch's record of it, and keeps the node's place in the model."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label
        self.origins: dict[relax.Var, list[Origin]] = {}

    def create_convert_map(self) -> dict[str, Callable[[torch.fx.Node], Any]]:
        """Return converters that name the node where they raise, or ignore an argument of it."""
        converters = super().create_convert_map()
        return {name: self._watched(convert) for name, convert in converters.items()}

    def update_convert_map(self, custom_convert_map: dict[str, Callable[..., Any]]) -> None:
        """Use other converters, which name the node where they raise."""
        super().update_convert_map(
            {
                name: lambda node, importer, how=convert: self._named(node, how, node, importer)
                for name, convert in custom_convert_map.items()
            }
        )

    def retrieve_args(self, node: Any) -> Any:
        """Return the values of a node's arguments, which are not read yet."""
        if not isinstance(node, WatchedNode):
            return super().retrieve_args(node)
        return node.args.evaluated(self._retrieve_args)

    def _watched(self, convert: Callable[[Any], Any]) -> Callable[[torch.fx.Node], Any]:
        def watched(node: torch.fx.Node) -> Any:
            seen = WatchedNode(node)
            value = self._named(node, convert, seen)
            ignored = seen.ignored()
            if ignored:
                raise LoweringError(
                    f"TVM cannot import {node_place(node)} of {self.label}: its converter ignores "
                    f"{ignored}. {_CONVERTER}={{'{converter_name(node)}': ...}}."
                )
            return value

        return watched

    def _named(self, node: torch.fx.Node, convert: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return convert(*arguments)
        except TapmlError:
            raise
        except Exception as error:
            raise_machine_error(error, f"importing {self.label}")
            self._check_shape(node)
            raise LoweringError(
                f"TVM cannot import {node_place(node)} of {self.label}: {error_line(error)}. "
                f"{_CONVERTER}={{'{converter_name(node)}': ...}}."
            ) from error

    def _check_shape(self, node: torch.fx.Node) -> None:
        """Refuse a node that cannot be imported and whose shape depends on values."""
        if has_open_shape(node):
            line = source_line(node).removeprefix(f"{Path.cwd()}{os.sep}")
            raise LoweringError(
                f"TVM cannot import {node_place(node)} of {self.label}, {line}: the "
                "shape of its result depends on values. Fix the shape: torch.nonzero_static(x, "
                "size=...) for places, torch.where(mask, x, other) for values."
            )

    def _check_unsupported_func_type(self, nodes: Any) -> None:
        missing = {
            converter_name(node): node_place(node)
            for node in reversed(list(nodes))
            if node.op == "call_function" and converter_name(node) not in self.convert_map
        }
        for node in nodes if missing else ():
            if converter_name(node) in missing:
                self._check_shape(node)
        if missing:
            places = names_text(list(reversed(missing.values())), _NAMED_AT_MOST)
            raise LoweringError(
                f"TVM cannot import {self.label}: it has no converter for {places}. {_CONVERTER}="
                f"{{'{next(reversed(missing))}': ...}}."
            )

    def _translate_fx_graph(
        self, graph_module: Any, nodes: Any, inputs_vars: Any, custom_ops: Any = None
    ) -> Any:
        outputs = super()._translate_fx_graph(graph_module, nodes, inputs_vars, custom_ops)
        for node in nodes:
            if node.op == "call_function":
                value = self.env.get(node)
                _check_node(node, value, self.label)
                if isinstance(value, relax.Var):
                    # A node that computes nothing has the variable of its operand.
                    self.origins.setdefault(value, [_origin(node)])
        return outputs


def _origin(node: torch.fx.Node) -> Origin:
    return Origin(module=module_path(node), node=node.name)


def _check_node(node: torch.fx.Node, value: Any, label: str) -> None:
    """Compare one node; the items of a tuple are compared at the nodes that read them."""
    expected = node.meta.get("val")
    ty = getattr(value, "ty", None)
    if not isinstance(expected, torch.Tensor) or not isinstance(ty, relax.TensorType):
        return
    difference = _difference(expected, ty)
    if difference:
        raise LoweringError(
            f"TVM imports {node_place(node)} of {label} wrongly: {difference}. "
            f"{_CONVERTER}={{'{converter_name(node)}': ...}}."
        )


def _check_interface(program: torch.export.ExportedProgram, label: str) -> None:
    """Refuse inputs, outputs and effects that the Relax function would not have.

    The program must be decomposed: before that, writes to buffers are hidden in its graph.
    """
    signature = program.graph_signature
    for spec in signature.input_specs:
        if spec.kind is InputKind.USER_INPUT and not isinstance(spec.arg, TensorArgument):
            raise UsageError(
                f"{label}: input '{spec.arg.name}' is {_value(spec.arg)}, and only tensors can be "
                "inputs. Fix its value in a wrapper module."
            )
    for node in program.graph.nodes:
        if node.op == "placeholder" and is_complex(node):
            raise UsageError(
                f"{label} has complex numbers in '{node.name}', which Relax does not have. Keep "
                "real and imaginary parts (torch.view_as_real), and use torch.view_as_complex in "
                "a wrapper module."
            )
    returned = (OutputKind.USER_OUTPUT, OutputKind.LOSS_OUTPUT)
    written = [str(spec.target) for spec in signature.output_specs if spec.kind not in returned]
    if written:
        raise UsageError(
            f"{label} writes to {', '.join(written)} while it runs, which a Relax function cannot "
            "do. Return the new values as outputs, in a wrapper module."
        )
    for index, spec in enumerate(signature.output_specs):
        if not isinstance(spec.arg, TensorArgument):
            raise UsageError(
                f"{label}: output {index} is {_value(spec.arg)}, and only tensors can be outputs. "
                "Leave it out in a wrapper module."
            )
    for index, node in enumerate(program.graph.output_node().args[0]):
        if is_complex(node):
            raise UsageError(
                f"{label}: output {index} is complex, and Relax has no complex numbers. Return "
                "torch.view_as_real of it, in a wrapper module."
            )


def _value(argument: Any) -> str:
    return repr(getattr(argument, "value", argument))


def _check_outputs(program: torch.export.ExportedProgram, module: Any, label: str) -> None:
    (graph_output,) = (node for node in program.graph.nodes if node.op == "output")
    outputs: Any = graph_output.args[0]
    fields = list(module["main"].ret_ty.fields)
    if len(fields) != len(outputs):
        raise LoweringError(
            f"TVM imports {label} with {len(fields)} outputs, expected {len(outputs)}. "
            "Return each tensor once, in a wrapper module."
        )
    for index, (node, ty) in enumerate(zip(outputs, fields, strict=True)):
        difference = _difference(node.meta["val"], ty)
        if difference:
            raise LoweringError(
                f"TVM imports output {index} ('{node.name}') of {label} wrongly: {difference}. "
                "Give converters for the operators it comes from with convert_map=."
            )


def _difference(expected: torch.Tensor, ty: Any) -> str:
    """Return how a Relax tensor type differs from a torch tensor, empty if it does not.

    Dimensions are compared if both are numbers.
    """
    dtype = str(expected.dtype).removeprefix("torch.")
    if str(ty.dtype) != dtype:
        return f"expected {dtype}, got {ty.dtype}"
    if ty.ndim not in (-1, expected.ndim):
        return f"expected {expected.ndim} dimensions, got {ty.ndim}"
    actual = ty.shape.values if isinstance(ty.shape, relax.ShapeExpr) else expected.shape
    for want, got in zip(expected.shape, actual, strict=True):
        if isinstance(want, int) and isinstance(got, tirx.IntImm) and want != int(got):
            shape = str(ty.shape).removeprefix("R.shape(").removesuffix(")")
            return f"expected shape {list(expected.shape)}, got {shape}"
    return ""
