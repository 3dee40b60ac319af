"""The base classes of frontends, the sources of models."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from relax_tapml.errors import UsageError

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of ``load_model``."""

    spec: str
    inputs: Sequence[Path] = ()
    texts: Sequence[str] = ()
    quantization: str | None = None
    dims: Mapping[str, Sequence[int]] = field(default_factory=dict)
    source: str = "llvm"
    trust: bool = False


class Frontend(ABC):
    """A source of models; each subclass is one file.

    The top level of its module must not import TVM or a framework, since the command line reads
    ``summary``.
    """

    usage: ClassVar[str]
    """The form of its names: ``minilm``, ``mlc:CONFIG``, ``model.pt2``."""

    summary: ClassVar[str]
    """A line that describes such a name, and contains ``usage``."""

    takes_texts: ClassVar[bool] = False
    """Whether it makes samples itself, from texts, and from inputs if it takes any.

    Otherwise texts are refused, and inputs replace the samples of the loaded model.
    """

    takes_quantization: ClassVar[bool] = False
    """Whether it takes the name of a quantization."""

    takes_dims: ClassVar[bool] = False
    """Whether it takes sizes of dimensions by name; it then reads inputs itself, too."""

    @abstractmethod
    def matches(self, spec: str) -> bool:
        """Whether a name is one of its own."""

    @abstractmethod
    def load(self, request: Request) -> Model:
        """Return the model that was requested.

        Raises
        ------
        UsageError
            There is no model of that name, or it takes other inputs.
        StoreError
            A file of it cannot be trusted.
        LoweringError
            A framework that it needs fails.
        """


class FileFrontend(Frontend):
    """A source whose models are files with their own suffix."""

    suffix: ClassVar[str]

    def matches(self, spec: str) -> bool:
        return Path(spec).suffix == self.suffix

    def load(self, request: Request) -> Model:
        """Return the model in the file. Raises ``UsageError`` if there is no such file."""
        path = Path(request.spec)
        if not path.is_file():
            names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, names, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"model {request.spec}: no such file.{hint}")
        return self.load_file(path, request)

    @abstractmethod
    def load_file(self, path: Path, request: Request) -> Model:
        """Return the model in a file that exists; see ``load``."""
