"""Replaces operators by their definitions in terms of others.

ONNX defines many operators as functions of simpler ones, and a file may bring functions of its own.
Such nodes are replaced where TVM cannot import them, or imports them wrongly.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx.inliner

from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend._onnx.nodes import STANDARD, all_nodes, opset_of
from relax_tapml.printable import error_line

_DEEPEST = 8
"""Of definitions that use defined operators."""


def with_definitions(model: onnx.ModelProto, known: Collection[str], label: str) -> onnx.ModelProto:
    """Return a model without its own functions and, if it can be, of known operators only.

    Parameters
    ----------
    model
        Not changed.
    known
        Operators of ONNX's domain that can be imported.
    label
        The model's name, for errors.

    Raises
    ------
    LoweringError
        ONNX cannot replace the functions of the file.
    """
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        for _ in range(_DEEPEST):
            names = sorted(
                {
                    node.op_type
                    for node in all_nodes(model.graph)
                    if node.domain in STANDARD
                    and node.op_type not in known
                    and _is_defined(node.op_type, opset_of(model))
                }
            )
            if not names:
                break
            model = onnx.inliner.inline_selected_functions(
                _with_defaults(model, names),
                [("", name) for name in names],
                inline_schema_functions=True,
            )
    except Exception as error:
        raise_machine_error(error, f"importing {label}")
        raise LoweringError(
            f"{label}: ONNX cannot replace functions by their nodes: {error_line(error)}. Do it "
            "yourself, with onnx.inliner, or give converters with convert_map="
        ) from error
    return model


def _with_defaults(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """Return a model whose nodes have the attributes that they left out.

    ONNX's inliner leaves what refers to an attribute that is not there without a value.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    for node in all_nodes(new.graph):
        if node.op_type not in names or node.domain not in STANDARD:
            continue
        schema = onnx.defs.get_schema(node.op_type, opset_of(model), "")
        has = {attribute.name for attribute in node.attribute}
        for name, attribute in schema.attributes.items():
            if name not in has and attribute.default_value.name:
                node.attribute.append(attribute.default_value)
    return new


def _is_defined(operator: str, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(operator, version, "")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)
