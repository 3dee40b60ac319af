"""TFLite models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import FileFrontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


class TfliteFile(FileFrontend):
    """A file of TFLite, which is also called LiteRT."""

    usage = "model.tflite"
    summary = "a TFLite model: model.tflite (needs relax-tapml[tflite])"
    suffix = ".tflite"
    takes_dims = True

    def load_file(self, path: Path, request: Request) -> Model:
        from relax_tapml.frontend.tflite_model import load_tflite

        return load_tflite(path, inputs=request.inputs, dims=request.dims)
