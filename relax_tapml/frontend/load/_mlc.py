"""Models of MLC-LLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import Frontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model

_PREFIX = "mlc:"


class MLC(Frontend):
    """A model that MLC-LLM, which must be installed, compiles as far as Relax."""

    usage = "mlc:CONFIG"
    summary = (
        "mlc:CONFIG, a config.json or mlc-chat-config.json for MLC-LLM, which must be installed, "
        "or the folder of one, with its weights if there are any"
    )
    takes_texts = True
    takes_quantization = True

    def matches(self, spec: str) -> bool:
        return spec.startswith(_PREFIX)

    def load(self, request: Request) -> Model:
        from relax_tapml.frontend._mlc import load_mlc

        return load_mlc(
            request.spec.removeprefix(_PREFIX),
            inputs=request.inputs,
            texts=request.texts,
            quantization=request.quantization,
            source=request.source,
        )
