"""ONNX models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import FileFrontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


class OnnxFile(FileFrontend):
    """A file of ONNX, with its external data beside it."""

    usage = "model.onnx"
    summary = "an ONNX model: model.onnx (needs relax-tapml[onnx])"
    suffix = ".onnx"
    takes_dims = True

    def load_file(self, path: Path, request: Request) -> Model:
        from relax_tapml.frontend.onnx_model import load_onnx

        return load_onnx(path, inputs=request.inputs, dims=request.dims)
