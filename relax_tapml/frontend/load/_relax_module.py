"""Relax modules as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import FileFrontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


class RelaxModule(FileFrontend):
    """A file of ``tvm.ir.save_json``, with its parameters beside it."""

    usage = "model.json"
    summary = (
        "a Relax module saved by tvm.ir.save_json: model.json, parameters in model.safetensors"
    )
    suffix = ".json"

    def load_file(self, path: Path, request: Request) -> Model:
        from relax_tapml.frontend.saved import load_ir

        return load_ir(path, trust=request.trust)
