"""Runs the workers of ``bench_detection.py`` and outlives their crashes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from typing import Any

from detection_worker import MUTANT, VARIANT, Task, work

from mutation.detection import FIXED, RANDOM, SUITE, Difference

WAYS = (SUITE, *FIXED, RANDOM)


@dataclass(kw_only=True)
class Attempt:
    """One kernel that was tried.

    Parameters
    ----------
    unit
        Of which unit.
    role, kind, where
        ``mutant`` or ``variant``, and what was changed.
    found
        Way of comparing to what it found.
    difference
        Where a mutant that the suite did not find differs from the kernel; None if nowhere.
    unbuilt
        Why it does not build; empty if it does.
    """

    unit: str
    role: str
    kind: str
    where: str
    found: dict[str, str] = field(default_factory=dict)
    difference: Difference | None = None
    unbuilt: str = ""
    stage: str = "begin"

    def receive(self, stage: str, value: Any) -> None:
        """Take in what the worker found."""
        self.stage = stage
        if stage == "unbuilt":
            self.unbuilt = value
        elif stage == "wide":
            self.difference = value
        else:
            self.found.update(value)

    def fail(self, what: str) -> None:
        """Take in that the worker ended in the middle of this attempt."""
        if self.stage == "begin":
            self.found = dict.fromkeys(WAYS, what)
        elif self.stage == "carved":
            self.found[RANDOM] = what
        if self.stage != "begin" and SUITE not in self.found:
            self.difference = Difference(text=f"{what} on other inputs", is_near=False)
        self.stage = "fault"

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing more to find out."""
        is_last = self.role == VARIANT or SUITE in self.found
        return self.stage in ("unbuilt", "wide", "fault") or (self.stage == "random" and is_last)

    @property
    def is_equivalent(self) -> bool:
        """Whether it is a mutant that nothing tells from the kernel."""
        return self.role == MUTANT and SUITE not in self.found and self.difference is None


class Worker:
    """A process that can be ended and started again."""

    def __init__(self, timeout_s: float) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["detection_worker"])
        self._timeout_s = timeout_s
        self._process: BaseProcess | None = None
        self._connection: Any = None

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None

    def messages(self, task: Task) -> Iterator[tuple[Any, ...]]:
        """Yield what a worker sends; ``("fault", reason)`` if it crashes or hangs."""
        if self._process is None:
            self._connection, theirs = self._context.Pipe()
            self._process = self._context.Process(target=work, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._connection.send(task)
            while True:
                if not self._connection.poll(self._timeout_s):
                    self.end()
                    yield "fault", f"timeout after {self._timeout_s:g} s"
                    return
                message = self._connection.recv()
                if message == ("end",):
                    return
                yield message
        except (EOFError, ConnectionError):
            self.end()
            yield "fault", "crash"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was tried with one unit; or why nothing was."""

    unit: str
    attempts: tuple[Attempt, ...]
    skipped: str = ""


def examine_unit(worker: Worker, task: Task) -> Examined:
    """Try everything with one unit, going on after each crash."""
    attempts: list[Attempt] = []
    while True:
        fault = ""
        for message in worker.messages(task):
            match message:
                case ("skipped", reason):
                    return Examined(unit=task.unit, attempts=(), skipped=reason)
                case ("fault", reason):
                    fault = reason
                case ("begin", _, role, kind, where):
                    attempts.append(Attempt(unit=task.unit, role=role, kind=kind, where=where))
                case (stage, _, value):
                    attempts[-1].receive(stage, value)
        if not fault:
            return Examined(unit=task.unit, attempts=tuple(attempts))
        if attempts and not attempts[-1].is_complete:
            attempts[-1].fail(fault)
            task = replace(task, first=len(attempts), is_careful=False)
        elif task.is_careful:
            return Examined(unit=task.unit, attempts=tuple(attempts), skipped=f"worker: {fault}")
        else:
            task = replace(task, first=len(attempts), is_careful=True)


def examine_all(tasks: Sequence[Task], jobs: int, timeout_s: float) -> Iterator[Examined]:
    """Examine units, ``jobs`` at a time; yield them in order."""
    workers = [Worker(timeout_s) for _ in range(jobs)]
    free = list(workers)

    def examine(task: Task) -> Examined:
        worker = free.pop()
        try:
            return examine_unit(worker, task)
        finally:
            free.append(worker)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(examine, tasks)
        finally:
            for worker in workers:
                worker.end()
