"""The interface through which long work reports its progress, without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """A running stage."""

    def update(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` parts are finished; they may be of any size.

        A new ``total`` begins another part of the stage.
        """

    def say(self, text: str) -> None:
        """Replace the stage's one line of text; the last one stays when the stage ends."""


def showing(stage: Stage, what: str) -> Callable[[int, int], None]:
    """Return what shows in a stage how many of how many parts are done: ``3 of 26 WHAT``."""

    def show(done: int, total: int) -> None:
        stage.update(done, total)
        stage.say(f"{done} of {total} {what}")

    return show


class Reporter(Protocol):
    """Receives stages, one after another; stages do not nest."""

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """Begin a stage; it ends with the context, failed if an exception leaves it."""

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take how long the stages to come will about take, by name and in order.

        It is called again when that is known better.
        """


class SilentStage:
    """A stage that reports to nothing."""

    def update(self, done: int, total: int) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""


SILENT: Stage = SilentStage()


class SilentReporter:
    """The reporter of library use."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:  # noqa: ARG002 - the protocol's argument
        """Begin a stage that reports to nothing."""
        yield SilentStage()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Do nothing."""


class Pace:
    """How much time a stage has left, by what is done of it.

    Parameters
    ----------
    expected_s
        How long the stage was expected to take; None if nothing is known.
    now
        The clock, for tests.
    """

    def __init__(
        self, expected_s: float | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._expected_s = expected_s
        self._began = self._part_began = now()
        self._first = self._done = 0
        self._total = 0

    def update(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` parts are finished."""
        if total != self._total:
            self._part_began, self._first, self._total = self._now(), done, total
        self._done = done

    @property
    def elapsed_s(self) -> float:
        """Since the stage began."""
        return self._now() - self._began

    @property
    def done_share(self) -> float | None:
        """Between 0 and 1; None where no part is known to be done."""
        return self._done / self._total if self._total and self._done else None

    @property
    def left_s(self) -> float | None:
        """Until the stage ends; None if nothing is known.

        By the parts that are done, once a tenth of them or ten seconds have shown how fast that is;
        by what was expected before, unless it has taken longer already.
        """
        done, spent = self._done - self._first, self._now() - self._part_began
        if done > 0 and (10 * done >= self._total or spent > 10):
            return spent * (self._total - self._done) / done
        if self._expected_s is None or self._expected_s < self.elapsed_s:
            return None
        return self._expected_s - self.elapsed_s
