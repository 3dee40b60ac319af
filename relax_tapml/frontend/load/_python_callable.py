"""Models from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_tapml.frontend.load.frontend import Frontend, Request

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


class PythonCallable(Frontend):
    """The user's own function, which returns a model."""

    usage = "package.module:callable"
    summary = (
        "package.module:callable[:arguments], which returns a Model, (IRModule, params), an "
        "exported program of torch, or (torch module, example inputs)"
    )

    may_take_texts = True

    def matches(self, spec: str) -> bool:
        return ":" in spec

    def load(self, request: Request) -> Model:
        from relax_tapml.frontend._callable import load_callable

        return load_callable(request.spec)
