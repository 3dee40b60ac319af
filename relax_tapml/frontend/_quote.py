"""Texts of others, short enough to quote in a message or a name."""

from __future__ import annotations

import textwrap


def text_start(text: str) -> str:
    """Return the first words of a text, as the name of a sample."""
    return textwrap.shorten(text, 40, placeholder="...") or "(empty)"
