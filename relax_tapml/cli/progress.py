"""Progress of long stages on stderr: a bar on a terminal, one line for each finished stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from relax_tapml.cli.console import console_of, plain
from relax_tapml.cli.streams import printable_stream, sink_of
from relax_tapml.progress import Stage
from relax_tapml.report.quantities import seconds_text

_NAME_WIDTH = 9
_TEXT_WIDTH = 64


class _LiveStage:
    """One stage, displayed as a task of ``bars``."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self.text = ""
        self._bars = bars
        self._task = task

    def update(self, done: int, total: int) -> None:
        self._bars.update(self._task, completed=done, total=total)

    def say(self, text: str) -> None:
        self.text = text
        self._bars.update(self._task, text=text)


class Progress:
    """A ``Reporter`` for the command line.

    On a terminal the current stage has a spinner, a bar and the elapsed time. A stage that ends
    prints one line, on a terminal and elsewhere::

        capture  189 sites x 4 inputs: 41 MB stored, 520 MB seen                   1.3 s

    Parameters
    ----------
    console
        Where to write; stderr by default, so that stdout holds results only.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or console_of(stderr=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Display a stage until the context ends; the line of a failed one ends in ``failed``."""
        started = time.perf_counter()
        bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        stage = _LiveStage(bars, bars.add_task(name, total=None, text=""))
        ending = "failed"
        try:
            with self._scrolling(), bars:
                yield stage
            ending = ""
        finally:
            text = ", ".join(part for part in (stage.text, ending) if part)
            self._print_line(name, text, time.perf_counter() - started)

    @contextmanager
    def _scrolling(self) -> Iterator[None]:
        """Print text that is written to stderr meanwhile above the progress bar, if any."""
        stderr = sys.stderr
        if self._console.is_terminal:
            sys.stderr = printable_stream(FileProxy(self._console, sink_of(stderr)))
        try:
            yield
        finally:
            sys.stderr = stderr

    def _print_line(self, name: str, text: str, seconds: float) -> None:
        line = f"{name:<{_NAME_WIDTH}}{text:<{_TEXT_WIDTH}}  {seconds_text(seconds):>8}"
        # Text, not a string: a stage's text is not markup. Without wrapping or cropping.
        self._console.print(plain(line), soft_wrap=True)
