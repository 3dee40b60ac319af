"""A watchdog for calls that cannot be told to give up."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType


class Deadline:
    """Run ``on_expiry`` in another thread if the ``with`` block takes longer than ``seconds``.

    A blocked foreign call releases the interpreter lock, so the other thread can end what it
    waits for (a process, a connection); the call then fails and ``is_expired`` tells why. Once the
    block is left, ``is_expired`` is final: ``on_expiry`` is not called if it is false.
    """

    def __init__(self, seconds: float, on_expiry: Callable[[], None]) -> None:
        self.is_expired = False
        self.on_expiry = on_expiry
        self._seconds = seconds

    def __enter__(self) -> Deadline:
        _watch.add(self, time.monotonic() + self._seconds)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _watch.remove(self)


class _Watch:
    """The deadlines that are running, and one thread that waits for the first of them.

    A hybrid run makes hundreds of calls that are shorter than starting a thread. The waiting
    thread is not woken when a deadline is met, so equal timeouts wake it once in that time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends: dict[Deadline, float] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline, end: float) -> None:
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._ends[deadline] = end
            if end < self._wakes_at:
                self._changed.notify()

    def remove(self, deadline: Deadline) -> None:
        with self._changed:
            self._ends.pop(deadline, None)

    def _run(self) -> None:
        while True:
            for deadline in self._wait():
                # In a thread of its own: it may take long or raise.
                threading.Thread(target=deadline.on_expiry, daemon=True).start()

    def _wait(self) -> list[Deadline]:
        with self._changed:
            self._wakes_at = min(self._ends.values(), default=math.inf)
            seconds = max(self._wakes_at - time.monotonic(), 0)
            self._changed.wait(min(seconds, threading.TIMEOUT_MAX))
            now = time.monotonic()
            expired = [deadline for deadline, end in self._ends.items() if end <= now]
            for deadline in expired:
                deadline.is_expired = True
                del self._ends[deadline]
            return expired


_watch = _Watch()


def _renew_watch() -> None:
    """Leave the parent's deadlines to it: a forked process lacks the thread that holds the lock."""
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_renew_watch)
