"""Consoles for tables, wrapped text and progress bars: rich, with control characters escaped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from relax_tapml.printable import printable


def console_of(
    *, stderr: bool = False, width: int | None = None, soft_wrap: bool = False
) -> Console:
    """Return a console on stdout or stderr; strings are no markup for it.

    Parameters
    ----------
    stderr
        Print there.
    width
        In characters; that of the terminal by default.
    soft_wrap
        Leave long lines to the terminal.
    """
    return _PrintableConsole(
        stderr=stderr, width=width, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False
    )


def plain(text: str, style: str = "") -> Text:
    """Return escaped text, without markup.

    A ``rich.text.Text`` that is escaped later may become too wide for its column.
    """
    return Text(printable(text), style=style)


class _PrintableConsole(Console):
    """A console that escapes control characters in text.

    Rich's own colours and cursor movements are not text, and are not changed.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as text."""
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Return the segments to print, with escaped text."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=printable(segment.text))
