"""Check names, keys and texts that come from files, and quote them in messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_NAME = 1024
MAX_TEXT = 4 * 1024 * 1024
_SYMBOL = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")
_QUOTED = 100


def name_fault(name: str) -> str:
    """Return why a text cannot be a name, empty if it can.

    A name is printed to terminals and pages, written into comments and compared, but never used in
    a path or in code without being converted.
    """
    if len(name) > MAX_NAME:
        return f"the name {quoted(name)} has {len(name)} characters, expected at most {MAX_NAME}"
    if not name.isprintable():
        return f"the name {quoted(name)} has characters that cannot be printed"
    return ""


def symbol_fault(name: str) -> str:
    """Return why a text cannot be the name of a function or an attribute, empty if it can.

    These become symbols of libraries and, in TVMScript, Python: words of ASCII letters, digits and
    ``_``, with dots between them.
    """
    if _SYMBOL.fullmatch(name) is None:
        return f"{quoted(name)} is no name: expected letters, digits, _ and dots"
    return name_fault(name)


def text_fault(text: str) -> str:
    """Return why a text is refused, empty if it is not; line breaks and tabs are allowed."""
    if len(text) > MAX_TEXT:
        return f"a text has {len(text)} characters, expected at most {MAX_TEXT}"
    if not text.isprintable() and not text.translate(_BREAKS).isprintable():
        return f"the text {quoted(text)} has characters that cannot be printed"
    return ""


_BREAKS = str.maketrans("\n\t", "  ")


def first_fault(names: Iterable[str]) -> str:
    """Return the first ``name_fault`` of several names, empty if there is none."""
    return next(filter(None, map(name_fault, names)), "")


def quoted(text: str) -> str:
    """Return a text as a message quotes it: escaped, and not longer than a line."""
    escaped = ascii(text)
    return escaped if len(escaped) <= _QUOTED else f"{escaped[:_QUOTED]}...{escaped[0]}"
