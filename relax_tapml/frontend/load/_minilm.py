"""The built-in example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_tapml.errors import UsageError
from relax_tapml.frontend.load.frontend import Frontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


class MiniLM(Frontend):
    """all-MiniLM-L6-v2, a model of sentences."""

    usage = "minilm"
    summary = "a built-in example: minilm"
    takes_texts = True

    def matches(self, spec: str) -> bool:
        return spec == self.usage

    def load(self, request: Request) -> Model:
        from relax_tapml.frontend._minilm import minilm

        if request.inputs:
            raise UsageError(
                f"{self.usage} makes its inputs from texts. Give --text, not --inputs."
            )
        return minilm(request.texts)
