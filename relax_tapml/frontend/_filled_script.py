"""Scripts that are written from a template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from relax_tapml.printable import printable


def filled(template: Path, blanks: Mapping[str, str]) -> bytes:
    """Return a template with the values of its blanks, ``<<NAME>>``; values are not looked into."""
    text = template.read_text(encoding="utf-8")
    return re.sub("<<([A-Z]+)>>", lambda blank: blanks[blank[1]], text).encode()


def one_line(text: str) -> str:
    """Return a text for one line of a docstring."""
    return printable(text).replace("\\", "/").replace('"""', "'''").replace("\n", " ")
