"""Makes text from other sources safe to print."""

from __future__ import annotations

import re

# Most text has none of these characters, and a search is fast.
_SUSPECT = re.compile(r"[^\n\t -~]")


def printable(text: str) -> str:
    """Return a text in which all characters that control a terminal or an editor are escaped.

    These are the characters that ``repr`` escapes, except line breaks and tabs: control characters
    (ESC, BEL, CR), invisible characters and those that change the direction of writing, line
    separators of Unicode, and halves of surrogate pairs. Otherwise a name from a file could move
    the cursor, hide earlier output, or look like another name.
    """
    return _SUSPECT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else repr(character)[1:-1]
