"""The memory of a process and all that it started, sampled while it runs."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from memory_of_run import memory_of_tree

_PERIOD_S = 0.2
_SHARE = 0.02  # Of the time that a sample may take: the kernel walks all pages for it.


class MemorySampler:
    """Samples the proportional set size (PSS) of a tree of processes until the context ends.

    A page that several processes have mapped counts once in the sum, so forks and mapped files are
    not counted twice. Of mapped files those pages count that are in memory, although the system can
    drop them.

    Parameters
    ----------
    pid
        The root of the tree.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: list[tuple[float, int]] = []
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

    def peak_bytes(self, begin: float, end: float) -> int:
        """Return the largest sum between two times of ``time.monotonic``; 0 without a sample."""
        return max((size for at, size in self._samples if begin <= at <= end), default=0)

    def _sample(self) -> None:
        pause = _PERIOD_S
        while not self._ends.wait(pause):
            began = time.monotonic()
            self._samples.append((began, int(memory_of_tree(self._pid).total * 1e6)))
            pause = max(_PERIOD_S, (time.monotonic() - began) / _SHARE)
