"""Folders that ``save_model`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import (
    Frontend,
    Request,
    kind_of_path,
    names_callable,
)

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


class SavedFolder(Frontend):
    """A folder with a model's module, parameters and samples."""

    usage = "FOLDER"
    summary = "a folder written by relax_tapml.save_model"

    def matches(self, spec: str) -> bool:
        return bool(spec) and not names_callable(spec) and kind_of_path(Path(spec)) == "folder"

    def load(self, request: Request) -> Model:
        from relax_tapml.frontend.saved import load_saved

        return load_saved(Path(request.spec), trust=request.trust)
