"""Text from a suite inside Python source, where none of it may become code."""

from __future__ import annotations

import json
from collections.abc import Iterable


def quoted(text: str) -> str:
    """Return a Python string literal."""
    # A JSON string is a Python string too.
    return json.dumps(text)


def comments(lines: Iterable[str]) -> str:
    """Return each line as a comment, with a line break after it."""
    return "".join(f"# {one_line(line)}".rstrip() + "\n" for line in lines)


def one_line(text: str) -> str:
    """Return ``text`` without anything that could end a comment."""
    return text if text.isprintable() else ascii(text)
