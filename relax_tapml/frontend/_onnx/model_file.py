"""Reads ONNX files and checks that they are models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.protobuf.message
import onnx
from onnx import external_data_helper

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.files.read import MAX_WEIGHTS_BYTES, listed_file, open_file, read_bytes
from relax_tapml.frontend._onnx.nodes import all_nodes
from relax_tapml.printable import message_line

_FIX = "Export the model again"
_MAX_PROTO_BYTES = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """A model, and what onnxruntime loads.

    Parameters
    ----------
    proto
        The model with all of its weights, as it is in the file.
    file
        Where it lies, if onnxruntime is to read it there: it is larger than a message may be.
    name
        For people: the file's name, or that of the graph.
    """

    proto: onnx.ModelProto
    file: Path | None
    name: str

    @property
    def content(self) -> Path | bytes:
        """What onnxruntime loads."""
        return self.file or self.proto.SerializeToString()


def open_model(given: Any, name: str | None) -> OnnxModel:
    """Return a model from a file or from an ``onnx.ModelProto``.

    Raises
    ------
    StoreError
        The file is no ONNX model, or names weights that are not beside it.
    UsageError
        There is no such file, or the argument is neither.
    """
    if isinstance(given, onnx.ModelProto):
        if given.ByteSize() > _MAX_PROTO_BYTES:
            raise UsageError(
                "an onnx.ModelProto of more than 2 GB cannot be given to onnxruntime. Save it with "
                "onnx.save(model, file, save_as_external_data=True) and give the file."
            )
        _check(given, "the model", given)
        return OnnxModel(proto=given, file=None, name=name or given.graph.name or "model")
    if not isinstance(given, str | Path):
        raise UsageError(
            f"from_onnx takes a file or an onnx.ModelProto, got a {type(given).__name__}."
        )
    file = Path(given)
    if not file.is_file():
        raise UsageError(f"model {file}: no such file.")
    proto = _read(file)
    is_large = proto.ByteSize() > _MAX_PROTO_BYTES
    return OnnxModel(proto=proto, file=file if is_large else None, name=name or file.stem)


def _read(file: Path) -> onnx.ModelProto:
    data = read_bytes(file, fix=_FIX, max_bytes=_MAX_PROTO_BYTES)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except google.protobuf.message.DecodeError as error:
        raise StoreError(
            f"{file} is not an ONNX model: {message_line(error)}. If it was fetched by git or a "
            f"hub, check that it is the file itself and no pointer to it. {_FIX}"
        ) from error
    if not proto.graph.output:
        raise StoreError(f"{file} is not an ONNX model: it has no graph with outputs. {_FIX}")
    _load_external_data(proto, file)
    _check(proto, str(file), proto if proto.ByteSize() <= _MAX_PROTO_BYTES else str(file))
    return proto


def _load_external_data(proto: onnx.ModelProto, file: Path) -> None:
    """Read weights that lie beside the file, and nowhere else."""
    for tensor in _tensors(proto):
        if not external_data_helper.uses_external_data(tensor):
            continue
        info = external_data_helper.ExternalDataInfo(tensor)
        path = listed_file(file.parent, info.location, by=file, fix=_FIX)
        offset = info.offset or 0
        try:
            with open_file(path, fix=_FIX, max_bytes=MAX_WEIGHTS_BYTES) as data:
                data.seek(offset)
                tensor.raw_data = data.read(info.length if info.length is not None else -1)
        except (OSError, ValueError) as error:
            raise_machine_error(error, f"reading {path}")
            raise StoreError(f"{path} cannot be read: {message_line(error)}. {_FIX}") from error
        if info.length is not None and len(tensor.raw_data) != info.length:
            raise StoreError(
                f"{path} is too short for '{tensor.name}': expected {info.length} bytes at "
                f"{offset}, got {len(tensor.raw_data)}. {_FIX}"
            )
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(proto: onnx.ModelProto) -> Any:
    yield from proto.graph.initializer
    for node in all_nodes(proto.graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from attribute.g.initializer


def _check(proto: onnx.ModelProto, label: str, checked: Any) -> None:
    try:
        onnx.checker.check_model(checked)
    except Exception as error:
        raise_machine_error(error, f"checking {label}")
        if not isinstance(error, onnx.checker.ValidationError):
            raise
        if "No Op registered" in str(error) or "No opset import" in str(error):
            return  # Named with all others that cannot be imported.
        raise StoreError(f"{label} is not a valid ONNX model: {message_line(error)}. {_FIX}") from (
            error
        )
    del proto
