"""Jobs beside each other, as many as cores and memory allow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Work = TypeVar("Work")


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Work]):
    """Something to do, and the bytes of memory that it needs meanwhile."""

    work: Work
    need_bytes: int


class WithinMemory(Generic[Work]):
    """Does jobs in threads while the memory that they need together is within a limit.

    A job that needs more than the limit is done when no other is.

    Parameters
    ----------
    most
        How many are done at once.
    limit_bytes
        Of memory.
    """

    def __init__(self, *, most: int, limit_bytes: int) -> None:
        self._most = most
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._waiting: list[Job[Work]] = []
        self._needs: list[int] = []  # of the jobs that are being done
        self._is_over = False

    def run(
        self,
        jobs: Sequence[Job[Work]],
        do: Callable[[Work], bool],
        *,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """Do all jobs, the first that fits next.

        Parameters
        ----------
        jobs
            In the order in which they are begun where memory allows.
        do
            Does a job, in a thread of its own. Returns whether it is done; otherwise it is done
            again when no other is.
        stop
            Ends jobs that are being done, because one has raised or the caller was interrupted.

        Raises
        ------
        BaseException
            One that a job raised, after all others have ended.
        """
        self._waiting = list(jobs)

        def watch(_: int) -> None:
            while (job := self._take()) is not None:
                is_done = True
                try:
                    is_done = do(job.work)
                except BaseException:
                    self._end(stop)
                    raise
                finally:
                    self._give_back(job, is_done=is_done)

        count = max(min(self._most, len(jobs)), 1)
        if count == 1:  # In the caller's thread, which an interrupt reaches.
            watch(0)
            return
        with ThreadPoolExecutor(count) as pool:
            try:
                for _ in pool.map(watch, range(count)):
                    pass
            except BaseException:
                self._end(stop)
                raise

    def _take(self) -> Job[Work] | None:
        with self._changed:
            while not self._is_over:
                for job in self._waiting:
                    if not self._needs or sum(self._needs) + job.need_bytes <= self._limit_bytes:
                        self._waiting.remove(job)
                        self._needs.append(job.need_bytes)
                        return job
                if not self._needs:
                    return None
                self._changed.wait()
        return None

    def _give_back(self, job: Job[Work], *, is_done: bool) -> None:
        with self._changed:
            self._needs.remove(job.need_bytes)
            if not is_done:
                self._waiting.append(Job(work=job.work, need_bytes=self._limit_bytes + 1))
            self._changed.notify_all()

    def _end(self, stop: Callable[[], None]) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        stop()
