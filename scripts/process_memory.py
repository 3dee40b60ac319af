"""The memory of a process and all that it started, sampled while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

_PERIOD_S = 0.2
_SHARE = 0.02  # Of the time that a sample may take: the kernel walks all pages for it.


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The proportional set size (PSS) of some processes: MB by the kind of page.

    A page that several processes have mapped counts once in the sum, so forks and mapped files are
    not counted twice.

    Parameters
    ----------
    own
        Of anonymous pages and of shared memory, which the system cannot drop.
    files
        Of pages of mapped files that are in memory, which it can.
    processes
        ``own`` of each process, the first one first.
    """

    own: float = 0.0
    files: float = 0.0
    processes: tuple[float, ...] = ()

    @property
    def total(self) -> float:
        """All of it."""
        return self.own + self.files


def memory_of_tree(pid: int) -> Memory:
    """Return the memory of a process and its children now."""
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return Memory()
    own, files = [], 0.0
    for one in tree:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:  # It has ended.
            continue
        kinds = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
        of_files = float(kinds.get("Pss_File", 0)) * 1024 / 1e6
        files += of_files
        own.append(float(kinds.get("Pss", 0)) * 1024 / 1e6 - of_files)
    return Memory(own=sum(own), files=files, processes=tuple(own))


class MemorySampler:
    """Samples a tree of processes until the context ends.

    Parameters
    ----------
    pid
        The root of the tree.
    period_s
        Between two samples; longer where a sample takes more than 2 % of it.
    """

    def __init__(self, pid: int, period_s: float = _PERIOD_S) -> None:
        self._pid = pid
        self._period_s = period_s
        self._samples: list[tuple[float, Memory]] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join()

    def peak(
        self, begin: float, end: float, by: Callable[[Memory], float] = lambda m: m.total
    ) -> Memory:
        """Return the sample between two times of ``time.monotonic`` that has most; or none."""
        found = (memory for at, memory in self._samples if begin <= at <= end)
        return max(found, key=by, default=Memory())

    def peak_bytes(self, begin: float, end: float) -> int:
        """Return the largest sum between two times of ``time.monotonic``; 0 without a sample."""
        return int(self.peak(begin, end).total * 1e6)

    def _sample(self) -> None:
        pause = self._period_s
        while not self._ends.wait(pause):
            began = time.monotonic()
            self._samples.append((began, memory_of_tree(self._pid)))
            pause = max(self._period_s, (time.monotonic() - began) / _SHARE)
