"""Text of others, as it may be printed."""

from __future__ import annotations

import re

# Most text has none of these, and is left alone at the speed of a search.
_SUSPECT = re.compile(r"[^\n\t -~]")


def printable(text: str) -> str:
    """Return a text with everything escaped that a terminal or an editor might obey.

    That is whatever ``repr`` escapes, except line breaks and tabs: control characters (ESC, BEL,
    CR), invisible characters and those that turn the direction of writing, line separators of
    Unicode, and halves of surrogate pairs. A name from a file could otherwise move the cursor,
    hide what was printed before, or show another name than the one it is.
    """
    return _SUSPECT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else repr(character)[1:-1]
