"""Runs rows of a zoo, each in a process of its own, and keeps what came of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

_LOG_TAIL = 400


@dataclass(kw_only=True)
class Row:
    """What came of one model; a subclass says more.

    Parameters
    ----------
    name
        Which.
    stage
        How far it came: ``done`` at the end.
    reason
        Why it is not right; empty if it is.
    seconds
        By stage, and in all.
    """

    name: str
    stage: str = "start"
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it, so that what ends this process does not end what is known."""
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the row that is in a file, or None where there is none."""
        return cls(**json.loads(path.read_text())) if path.exists() else None


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, kw_only=True)
class Task(Generic[R]):
    """One row to make.

    Parameters
    ----------
    file
        The name of its file, without a suffix.
    blank
        The row before anything is known.
    arguments
        Of ``work``, before the path of the row.
    """

    file: str
    blank: R
    arguments: tuple[Any, ...]


def make_rows(
    tasks: Sequence[Task[R]],
    work: Callable[..., None],
    out: Path,
    *,
    jobs: int,
    is_again: bool,
    timeout_s: float,
    preloaded: Sequence[str],
) -> Iterator[R]:
    """Yield the row of each task when it is there; those that are in ``out`` are not made again.

    Parameters
    ----------
    tasks, out
        What to make, and the folder for it.
    work
        ``work(*arguments, path)`` makes a row and writes it to ``path``, a file ``.json``; its
        output goes to the file ``.log`` beside it.
    jobs, timeout_s
        How many processes at a time, and how long one may take.
    is_again
        Whether rows that are there are made again.
    preloaded
        Modules that every process imports, imported once.
    """
    # For the processes, which are as many as there are cores; the server they are forked from finds
    # the worker by the environment only.
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ.update(
        TVM_NUM_THREADS="1", OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(filter(None, paths))
    )
    out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))

    def make(task: Task[R], path: Path) -> R:
        began = time.perf_counter()
        path.unlink(missing_ok=True)
        process = context.Process(target=work, args=(*task.arguments, path), daemon=True)
        process.start()
        process.join(timeout_s)
        fault = ""
        if process.is_alive():
            fault = f"timeout after {timeout_s:g} s"
        elif process.exitcode:
            fault = f"exit code {process.exitcode}"
        process.kill()
        process.join()
        row = type(task.blank).read(path) or task.blank
        if fault:
            log = path.with_suffix(".log")
            tail = log.read_text(errors="replace")[-_LOG_TAIL:] if log.exists() else ""
            row.reason = f"{fault} in stage {row.stage}: {' '.join(tail.split())}"
            row.seconds["total"] = time.perf_counter() - began
            row.save(path)
        return row

    with ThreadPoolExecutor(jobs) as pool:
        pending = []
        for task in tasks:
            path = (out / f"{task.file}.json").resolve()
            row = None if is_again else type(task.blank).read(path)
            if row is not None and row.seconds.get("total"):
                yield row
            else:
                pending.append(pool.submit(make, task, path))
        for future in as_completed(pending):
            yield future.result()
