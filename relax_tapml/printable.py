"""Make text from outside safe to print."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Most text has none of these, and only a search is needed.
_SUSPECT = re.compile(r"[^\n\t -~]")
_MAX_LINE = 400


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


def message_line(error: BaseException | str, number: int = 0) -> str:
    """Return one line of an error's message, safe to print; its type's name if it has no message.

    Lines that only mark a place in the line above, as parsers print them, do not count.

    Parameters
    ----------
    error
        An exception, or the output of a program.
    number
        Which line: 0 for the first, -1 for the last.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" \t|^~")]
    line = printable(lines[number]) if lines else type(error).__name__
    return line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}..."


def error_line(error: BaseException) -> str:
    """Return the type of an error with the first line of its message, safe to print."""
    kind, line = type(error).__name__, message_line(error)
    return line if line == kind else f"{kind}: {line}"


def error_text(error: BaseException) -> str:
    """Return the type of an error with its whole message, safe to print.

    Lines that only mark a place in the line above are left out, as are spaces around lines.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" \t|^~")]
    text = "\n".join([type(error).__name__ + (":" if lines else ""), *lines])
    return printable(text.replace("\n", " ", 1))


def names_text(names: Sequence[str], most: int = 3) -> str:
    """Write the first names of a list: ``a, b, c and 4 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
