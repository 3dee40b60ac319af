"""The base classes of frontends, the sources of models."""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from relax_tapml.errors import UsageError

if TYPE_CHECKING:
    from relax_tapml.frontend.model import Model


# Not the text behind the second colon: an argument may be the name of a file.
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(:|\Z)")


def names_callable(spec: str) -> bool:
    """Whether a name has the form ``package.module:callable[:arguments]``, and so is no path."""
    return _CALLABLE.match(spec) is not None


def kind_of_path(path: Path) -> str:
    """Return ``file``, ``folder``, or nothing where there is neither, or no such name can be."""
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else ""
    except OSError:  # A name that is too long, or a folder that cannot be entered.
        return ""


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

    may_take_texts: ClassVar[bool] = False
    """Whether a model of it may have a tokenizer of its own, ``Model.from_texts``."""

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
        return not names_callable(spec) and Path(spec).suffix == self.suffix

    def load(self, request: Request) -> Model:
        """Return the model in the file. Raises ``UsageError`` if there is no such file."""
        path = Path(request.spec)
        if kind_of_path(path) != "file":
            is_in_folder = kind_of_path(path.parent) == "folder"
            names = [file.name for file in path.parent.iterdir()] if is_in_folder else []
            close = difflib.get_close_matches(path.name, names, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"model {request.spec}: no such file.{hint}")
        return self.load_file(path, request)

    @abstractmethod
    def load_file(self, path: Path, request: Request) -> Model:
        """Return the model in a file that exists; see ``load``."""
