"""Progress of long stages on stderr: a live line on a terminal, lines now and then in a log."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from relax_tapml.cli.console import console_of, plain
from relax_tapml.cli.streams import printable_stream, sink_of
from relax_tapml.printable import printable
from relax_tapml.progress import Pace, Stage
from relax_tapml.report.quantities import about_text, rough_text, seconds_text

_NAME_WIDTH = 9
_TEXT_WIDTH = 64
_TIME_WIDTH = 10
_WIDE, _BAR = 100, 24


class _LiveStage:
    """One stage, displayed as a task of ``bars``.

    Parameters
    ----------
    expected_s
        How long it was expected to take; None if nothing is known.
    later_s
        How long the stages after it are expected to take.
    """

    def __init__(self, bars: Bars, name: str, expected_s: float | None, later_s: float) -> None:
        self.text = ""
        self._pace = Pace(expected_s)
        self._later_s = later_s
        self._bars = bars
        self._task: TaskID = bars.add_task(name, total=None, text="", stage=self)

    def update(self, done: int, total: int) -> None:
        self._pace.update(done, total)
        self._bars.update(self._task, completed=done, total=total)

    def say(self, text: str) -> None:
        self.text = text
        self._bars.update(self._task, text=text)

    @property
    def left_text(self) -> str:
        """How long the stage and the run will still about take; empty where that is not known."""
        left_s = self._pace.left_s
        if left_s is None:
            return ""
        total = f", {rough_text(left_s + self._later_s)} in all" if self._later_s > 1 else ""
        return f"{about_text(left_s)} left{total}"

    @property
    def line(self) -> str:
        """What it does, how far it is, and the time left."""
        share = self._pace.done_share
        parts = [
            "" if share is None else f"{share:.0%}",
            f"{rough_text(self._pace.elapsed_s)} so far",
            self.left_text,
        ]
        return f"{self.text}: {', '.join(filter(None, parts))}".removeprefix(": ")


class _Left(ProgressColumn):
    """The time left, computed anew whenever the bar is drawn."""

    def render(self, task: Task) -> Text:
        return plain(task.fields["stage"].left_text)


class _Text(ProgressColumn):
    """What a stage does, as much of it as fits beside the rest on one line.

    The line that stays when the stage ends has all of it.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        bar = 10 if self._console.width < _WIDE else _BAR
        # A spinner, the elapsed time, and spaces between the columns.
        taken = 1 + len(task.description) + bar + 7 + len(task.fields["stage"].left_text) + 5
        text = plain(task.fields["text"])
        text.truncate(max(0, self._console.width - taken - 1), overflow="ellipsis")
        text.no_wrap = True
        return text


class Progress:
    """A ``Reporter`` for the command line.

    On a terminal the current stage has a spinner, a bar, the elapsed time and the time left. In a
    log a long stage prints a line now and then. A stage that ends prints one line::

        capture  189 sites x 4 inputs: 41 MB stored, 520 MB seen                   1.3 s

    Parameters
    ----------
    console
        Where to write; stderr by default, so that stdout holds results only.
    interval_s
        How often a long stage prints a line in a log.
    """

    def __init__(self, console: Console | None = None, *, interval_s: float = 30.0) -> None:
        self._console = console or console_of(stderr=True)
        self._interval_s = interval_s
        self._expected: dict[str, float] = {}

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take how long the stages to come will about take, by name and in order."""
        self._expected = dict(seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Display a stage until the context ends; the line of a failed one ends in ``failed``."""
        started = time.perf_counter()
        is_narrow = self._console.width < _WIDE
        bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10 if is_narrow else _BAR),
            _Text(self._console),
            TimeElapsedColumn(),
            _Left(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        expected_s, later_s = self._foreseen(name)
        stage = _LiveStage(bars, name, expected_s, later_s)
        ending = "failed"
        try:
            with self._scrolling(), bars, self._beating(name, stage):
                yield stage
            ending = ""
        finally:
            text = ", ".join(part for part in (stage.text, ending) if part)
            self._print_line(name, text, time.perf_counter() - started)

    def _foreseen(self, name: str) -> tuple[float | None, float]:
        """Return how long a stage and those after it will about take."""
        names = list(self._expected)
        if name not in names:
            return None, sum(self._expected.values())
        later = names[names.index(name) + 1 :]
        return self._expected[name], sum(self._expected[other] for other in later)

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

    @contextmanager
    def _beating(self, name: str, stage: _LiveStage) -> Iterator[None]:
        """Print a line now and then, unless a terminal shows the stage all the time."""
        if self._console.is_terminal:
            yield
            return
        is_over = Event()

        def beat() -> None:
            while not is_over.wait(self._interval_s):
                # Not by the console, whose lock a fork would inherit.
                self._console.file.write(f"{name:<{_NAME_WIDTH}}{printable(stage.line)}\n")
                self._console.file.flush()

        thread = Thread(target=beat, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _print_line(self, name: str, text: str, seconds: float) -> None:
        width, lines = _TEXT_WIDTH, [printable(text)]
        if self._console.is_terminal:
            room = self._console.width - _NAME_WIDTH - _TIME_WIDTH
            width = max(20, min(_TEXT_WIDTH, room))
            wrapped = textwrap.wrap(lines[0], max(20, room), break_on_hyphens=False)
            lines = wrapped or [""]
        *first, last = lines
        for number, part in enumerate(first):
            self._console.print(plain(f"{'' if number else name:<{_NAME_WIDTH}}{part}"))
        label = "" if first else name
        line = f"{label:<{_NAME_WIDTH}}{last:<{width}}{seconds_text(seconds):>{_TIME_WIDTH}}"
        # Text, not a string: a stage's text is not markup. Without wrapping or cropping.
        self._console.print(plain(line), soft_wrap=True)
