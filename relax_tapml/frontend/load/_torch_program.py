"""Programs of torch.export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import FileFrontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


class TorchProgram(FileFrontend):
    """A file of ``torch.export.save``."""

    usage = "model.pt2"
    summary = "a torch.export program: model.pt2"
    suffix = ".pt2"

    def load_file(self, path: Path, request: Request) -> Model:
        from relax_tapml.frontend.torch_export import load_pt2

        return load_pt2(path, trust=request.trust)
