"""The values that no input decides: weights that are stored sparsely, and arithmetic on shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relax_tapml.arrays import Array
from relax_tapml.frontend._tflite.operators import Operator, operators_of

_MOST_VALUES = 256
_OF_SHAPES = ("RANK", "SHAPE")
_SMALL_INTEGERS = ("int32", "int64", "bool")


def known_values(model: Any, values: Mapping[int, Array]) -> dict[int, Array]:
    """Return the results of operators of the main subgraph that are the same in every run.

    TVM's importer wants constants where TFLite has tensors: the shape of a ``RESHAPE``, the bounds
    of a slice. All sizes are numbers, so a ``SHAPE`` is known, and so is what is computed from it.

    Parameters
    ----------
    model
        A ``tflite.Model``.
    values
        Of each tensor, in a run of the interpreter with these sizes.
    """
    graph = model.Subgraphs(0)
    written = {at for operator in operators_of(model, 0) for at in operator.outputs}
    given = {graph.Inputs(at) for at in range(graph.InputsLength())}
    constant = set(values) - written - given
    found: dict[int, Array] = {}
    for operator in operators_of(model, 0):
        if _is_known(operator, constant | found.keys(), values):
            found.update({at: values[at] for at in operator.outputs})
    return found


def _is_known(operator: Operator, known: set[int], values: Mapping[int, Array]) -> bool:
    if not operator.outputs or any(at not in values for at in operator.outputs):
        return False
    if operator.name not in _OF_SHAPES and any(
        at >= 0 and at not in known for at in operator.inputs
    ):
        return False
    return operator.name == "DENSIFY" or all(
        values[at].dtype.name in _SMALL_INTEGERS and values[at].size < _MOST_VALUES
        for at in operator.outputs
    )
