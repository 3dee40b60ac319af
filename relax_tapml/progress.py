"""The interface through which long work reports its progress, without a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """A running stage."""

    def update(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` parts are finished."""

    def say(self, text: str) -> None:
        """Replace the stage's one line of text; the last one stays when the stage ends."""


class Reporter(Protocol):
    """Receives stages, one after another; stages do not nest."""

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """Begin a stage; it ends with the context, failed if an exception leaves it."""


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
