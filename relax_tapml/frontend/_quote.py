"""Texts of others, short enough to quote in a message or a name."""

from __future__ import annotations

import textwrap


def first_line(error: BaseException) -> str:
    """Return the exception's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def text_start(text: str) -> str:
    """Return the first words of a text, as the name of a sample."""
    return textwrap.shorten(text, 40, placeholder="...") or "(empty)"
