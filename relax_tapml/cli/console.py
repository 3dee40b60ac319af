"""What prints tables, wrapped text and the moving line: rich, with text of others escaped."""

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
    """Return text to print as it is, of the width that it will have.

    What of a ``rich.text.Text`` is escaped later may not fit the column that was made for it.
    """
    return Text(printable(text), style=style)


class _PrintableConsole(Console):
    """A console on which text of others is shown and not obeyed.

    Colours, and the sequences that move the cursor, are no text and stay as they are.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as text."""
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Return the segments of what is to be printed."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=printable(segment.text))
