"""Progress of long stages on stderr: a moving line on a terminal, one line per finished stage."""

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
    """One stage, shown by a task of ``bars``."""

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

    On a terminal the stage under way shows a spinner, a bar and the elapsed time. Everywhere, a
    stage leaves one line when it ends::

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
        """Show a stage until the context ends; a failed stage's line says so."""
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
            self._leave_line(name, text, time.perf_counter() - started)

    @contextmanager
    def _scrolling(self) -> Iterator[None]:
        """Show what is written to stderr meanwhile above the moving line, if there is one."""
        stderr = sys.stderr
        if self._console.is_terminal:
            sys.stderr = printable_stream(FileProxy(self._console, sink_of(stderr)))
        try:
            yield
        finally:
            sys.stderr = stderr

    def _leave_line(self, name: str, text: str, seconds: float) -> None:
        line = f"{name:<{_NAME_WIDTH}}{text:<{_TEXT_WIDTH}}  {seconds_text(seconds):>8}"
        # Text, not a string: what a stage says is not markup. No wrapping by us, no cropping.
        self._console.print(plain(line), soft_wrap=True)
