"""Reads ONNX files and checks that they are models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.protobuf.message
import onnx

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.files.read import MAX_WEIGHTS_BYTES, listed_file, open_file, read_bytes
from relax_tapml.printable import message_line, printable

_FIX = "Export the model again"
MOST_PROTO_BYTES = (1 << 31) - 1
"""Of a message of protobuf."""


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
    def content(self) -> Path | onnx.ModelProto:
        """What onnxruntime loads."""
        return self.file or self.proto


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
        if given.ByteSize() > MOST_PROTO_BYTES:
            raise UsageError(
                "an onnx.ModelProto of more than 2 GB cannot be given to onnxruntime. Save it with "
                "onnx.save(model, file, save_as_external_data=True) and give the file."
            )
        outside = next((one for one in _tensors(given) if _is_outside(one)), None)
        if outside is not None:
            raise UsageError(
                f"the weights '{printable(outside.name)}' of the onnx.ModelProto are in another "
                "file, and it is not known in which folder. Give the path of the model's file, or "
                "load the weights: onnx.load(file)."
            )
        _check("the model", given)
        return OnnxModel(proto=given, file=None, name=name or given.graph.name or "model")
    if not isinstance(given, str | Path):
        raise UsageError(
            f"from_onnx takes a file or an onnx.ModelProto, got a {type(given).__name__}."
        )
    file = Path(given)
    if not file.is_file():
        raise UsageError(f"model {file}: no such file.")
    proto = _read(file)
    is_large = proto.ByteSize() > MOST_PROTO_BYTES
    return OnnxModel(proto=proto, file=file if is_large else None, name=name or file.stem)


def _read(file: Path) -> onnx.ModelProto:
    data = read_bytes(file, fix=_FIX, max_bytes=MOST_PROTO_BYTES)
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
    _check(str(file), proto if proto.ByteSize() <= MOST_PROTO_BYTES else str(file))
    return proto


def _load_external_data(proto: onnx.ModelProto, file: Path) -> None:
    """Read weights that lie beside the file, and nowhere else."""
    for tensor in _tensors(proto):
        if not _is_outside(tensor):
            continue
        info = {entry.key: entry.value for entry in tensor.external_data}
        path = listed_file(file.parent, info.get("location", ""), by=file, fix=_FIX)
        offset = _number(info.get("offset", "0"), "offset", tensor, file)
        try:
            with open_file(path, fix=_FIX, max_bytes=MAX_WEIGHTS_BYTES) as data:
                left = max(os.fstat(data.fileno()).st_size - offset, 0)
                length = _number(info.get("length", str(left)), "length", tensor, file)
                if length > left:  # Before memory is taken for it.
                    raise StoreError(
                        f"{path} is too short for '{printable(tensor.name)}': expected {length} "
                        f"bytes at {offset}, got {left}. {_FIX}"
                    )
                data.seek(offset if length else 0)
                tensor.raw_data = data.read(length)
        except (OSError, ValueError) as error:
            raise_machine_error(error, f"reading {path}")
            raise StoreError(f"{path} cannot be read: {message_line(error)}. {_FIX}") from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _is_outside(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _number(text: str, key: str, tensor: onnx.TensorProto, file: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise StoreError(
            f"{file} is damaged: the {key} of '{printable(tensor.name)}' in its file is "
            f"{printable(text[:40])!r}, expected a number of bytes. {_FIX}"
        )
    return int(text)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of a model, also those in subgraphs, functions and sparse tensors."""
    yield from _tensors_of_graph(proto.graph)
    for training in proto.training_info:
        yield from _tensors_of_graph(training.initialization)
        yield from _tensors_of_graph(training.algorithm)
    for function in proto.functions:
        yield from _tensors_of_attributes(function.attribute_proto)
        for node in function.node:
            yield from _tensors_of_attributes(node.attribute)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_attributes(node.attribute)


def _tensors_of_attributes(
    attributes: Iterable[onnx.AttributeProto],
) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        if attribute.HasField("g"):
            yield from _tensors_of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _tensors_of_graph(graph)


def _check(label: str, checked: Any) -> None:
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
