"""The TFLite interpreter: runs a model as the reference, and tells the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from relax_tapml.arrays import Array


def interpreter_of(content: bytes, *, keep_all: bool = False) -> Any:
    """Return an interpreter that runs the operators of a file one by one, as they are in it.

    Its kernels are the reference kernels: plain loops that say what an operator means. The others
    are faster, add up in other orders, and may be replaced by XNNPACK, which fuses operators and
    rounds in its own way. An interpreter may have threads, which a fork would lose, so none is
    kept.

    Parameters
    ----------
    content
        The file.
    keep_all
        Whether the values of all tensors can be read after a run.
    """
    return Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=keep_all,
        num_threads=1,
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the main subgraph.

    Parameters
    ----------
    outputs
        In the order of the file.
    shapes
        Of each tensor, by its number.
    values
        Of each tensor that the run has written or read, by its number; empty if they were not kept.
    """

    outputs: list[Array]
    shapes: Mapping[int, tuple[int, ...]]
    values: Mapping[int, Array]


def allocated(content: bytes, shapes: Sequence[Sequence[int]], *, keep_all: bool = False) -> Any:
    """Return an interpreter whose inputs have the given shapes. Errors are those of TFLite."""
    interpreter = interpreter_of(content, keep_all=keep_all)
    for detail, shape in zip(interpreter.get_input_details(), shapes, strict=True):
        if list(detail["shape"]) != list(shape):
            interpreter.resize_tensor_input(detail["index"], list(shape))
    interpreter.allocate_tensors()
    return interpreter


def run_model(content: bytes, arrays: Sequence[Array], *, keep_all: bool = False) -> Run:
    """Run a model; errors are those of TFLite.

    Parameters
    ----------
    content
        The file.
    arrays
        A value of each input.
    keep_all
        Whether to return the values of all tensors.
    """
    interpreter = allocated(content, [array.shape for array in arrays], keep_all=keep_all)
    for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    details = interpreter.get_tensor_details()
    return Run(
        outputs=[
            np.array(interpreter.get_tensor(detail["index"]))
            for detail in interpreter.get_output_details()
        ],
        shapes={detail["index"]: tuple(map(int, detail["shape"])) for detail in details},
        values=_values(interpreter, details) if keep_all else {},
    )


def _values(interpreter: Any, details: Sequence[Mapping[str, Any]]) -> dict[int, Array]:
    found = {}
    for detail in details:
        try:
            found[detail["index"]] = np.array(interpreter.get_tensor(detail["index"]))
        except ValueError:  # It has no data: a state, or a tensor that no operator uses.
            continue
    return found
