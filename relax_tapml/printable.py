"""Make text from outside safe to print."""

from __future__ import annotations

import re

# Most text has none of these, and only a search is needed.
_SUSPECT = re.compile(r"[^\n\t -~]")


def printable(text: str) -> str:
    """Return a text in which everything is escaped that a terminal or an editor may interpret.

    That is all that ``repr`` escapes, except line breaks and tabs: control characters (ESC, BEL,
    CR), invisible characters and those that change the direction of writing, line separators of
    Unicode, and halves of surrogate pairs. A name from a file could otherwise move the cursor,
    hide earlier output, or look like another name.
    """
    return _SUSPECT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else repr(character)[1:-1]
