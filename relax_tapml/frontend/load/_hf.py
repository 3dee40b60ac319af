"""Checkpoint folders in the layout of Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import Frontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model

_PREFIX = "hf:"


class HuggingFace(Frontend):
    """A model of the transformers package, from a folder; nothing is fetched."""

    usage = "hf:FOLDER"
    summary = (
        "hf:FOLDER, a checkpoint in the layout of Hugging Face: config.json, safetensors (without "
        "any, weights are drawn), and a tokenizer for --text"
    )
    takes_texts = True

    def matches(self, spec: str) -> bool:
        return spec.startswith(_PREFIX)

    def load(self, request: Request) -> Model:
        from relax_tapml.frontend.hf.load_folder import load_hf

        return load_hf(
            Path(request.spec.removeprefix(_PREFIX)).expanduser(),
            texts=request.texts,
            inputs=request.inputs,
            trust=request.trust,
        )
