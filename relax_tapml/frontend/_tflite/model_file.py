"""Reads TFLite files and checks that they are models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tflite

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.files.read import read_bytes
from relax_tapml.frontend._tflite.runtime import interpreter_of
from relax_tapml.printable import message_line, printable

_FIX = "Export the model again"
_MOST_BYTES = (1 << 31) - 1  # Offsets in the format have 32 bits.
_MAGIC = b"TFL3"


@dataclass(frozen=True, kw_only=True)
class TfliteModel:
    """A model that the interpreter has verified.

    Parameters
    ----------
    content
        The file.
    name
        For people.
    """

    content: bytes
    name: str

    @property
    def root(self) -> Any:
        """The model by its schema: a ``tflite.Model``."""
        return tflite.Model.GetRootAs(self.content, 0)


def open_model(given: Any, name: str | None) -> TfliteModel:
    """Return a model from a file, or from the bytes of one.

    Raises
    ------
    StoreError
        It is no TFLite model, is damaged, or the interpreter does not take it.
    UsageError
        There is no such file, or the argument is neither.
    """
    if isinstance(given, bytes):
        return _checked(given, name or "model", "the model")
    if not isinstance(given, str | Path):
        raise UsageError(f"from_tflite takes a file or bytes, got a {type(given).__name__}.")
    file = Path(given)
    if not file.is_file():
        raise UsageError(f"model {file}: no such file.")
    content = read_bytes(file, fix=_FIX, max_bytes=_MOST_BYTES)
    return _checked(content, name or file.stem, str(file))


def _checked(content: bytes, name: str, label: str) -> TfliteModel:
    magic = content[4:8]
    got = printable(repr(magic.decode("latin-1"))) if magic else "nothing"
    if magic != _MAGIC:
        raise StoreError(
            f"{label} is not a TFLite model: expected {_MAGIC.decode()} at byte 4, got "
            f"{got}. If it was fetched by git or a hub, check that it is the file itself and no "
            f"pointer to it. {_FIX}"
        )
    try:
        # It verifies each offset in the file, which the package of the schema does not do.
        interpreter_of(content)
    except Exception as error:
        raise_machine_error(error, f"checking {label}")
        raise StoreError(
            f"{label} is damaged, or newer than the TFLite interpreter: {message_line(error)}. "
            f"{_FIX}, or install a newer ai-edge-litert"
        ) from error
    model = TfliteModel(content=content, name=name)
    fault = _wrong_number(model.root)
    if fault:
        raise StoreError(f"{label} is damaged: {fault}. {_FIX}")
    return model


def _wrong_number(model: Any) -> str:
    """Return the first number that names nothing in the file; empty if there is none."""
    if not model.SubgraphsLength():
        return "it has no subgraph"
    codes, buffers = model.OperatorCodesLength(), model.BuffersLength()
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        tensors = graph.TensorsLength()
        for at in range(tensors):
            if not 0 <= graph.Tensors(at).Buffer() < buffers:
                return f"tensor {at} of subgraph {number} has no buffer"
        ends = [graph.Inputs(at) for at in range(graph.InputsLength())]
        ends += [graph.Outputs(at) for at in range(graph.OutputsLength())]
        if any(not 0 <= at < tensors for at in ends):
            return f"subgraph {number} has inputs or outputs that are no tensors of it"
        for at in range(graph.OperatorsLength()):
            raw = graph.Operators(at)
            inputs = [raw.Inputs(i) for i in range(raw.InputsLength())]
            outputs = [raw.Outputs(i) for i in range(raw.OutputsLength())]
            is_right = 0 <= raw.OpcodeIndex() < codes
            is_right = is_right and all(-1 <= i < tensors for i in inputs)
            if not is_right or any(not 0 <= i < tensors for i in outputs):
                return f"operator {at} of subgraph {number} names what the file does not have"
    return ""
