"""A time limit for blocking calls that have none of their own."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from relax_tapml.processes._process_time import ProcessTime

# How often the processor time of a process is read before its time is over.
_LOOKS = 8
# In less time a process that is not idle may get no processor time on a busy machine.
_LEAST_LOOK_S = 0.5


class Deadline:
    """Run ``on_expiry`` in another thread if the ``with`` block takes longer than ``seconds``.

    A blocked call of a library releases the interpreter lock, so the other thread can end what it
    waits for (a process, a connection); the call then fails and ``is_expired`` is true. Once the
    block is left, ``is_expired`` is final: ``on_expiry`` is not called if it is false.

    Parameters
    ----------
    seconds
        How long it may take.
    on_expiry
        Ends what the block waits for.
    pid
        A process of this machine that the block waits for. Its processor time counts then, so that
        a busy machine does not make it late; see ``ProcessTime``. At most ten times as much
        passes. None for what runs elsewhere, where only elapsed time can be measured.
    """

    def __init__(
        self, seconds: float, on_expiry: Callable[[], None], *, pid: int | None = None
    ) -> None:
        self.is_expired = False
        self.on_expiry = on_expiry
        self._seconds = seconds
        self._pid = pid
        self._clock: ProcessTime | None = None
        self._spent_s = 0.0
        self._began = self._seen = 0.0

    @property
    def text(self) -> str:
        """The limit, for messages: the seconds, and the elapsed ones if these are many more."""
        passed_s = self._seen - self._began
        if passed_s < 1.5 * self._seconds:
            return f"{self._seconds:g} s"
        return f"{self._seconds:g} s of processor time ({passed_s:.0f} s elapsed on a busy machine)"

    def __enter__(self) -> Deadline:
        self._began = self._seen = time.monotonic()
        _watch.add(self, self._next_look())
        return self

    def look(self, now: float) -> float | None:
        """Return when to look again, None if the time is over; called by the watch only."""
        passed_s, self._seen = now - self._seen, now
        if self._clock is not None:
            passed_s = self._clock.counted_s(passed_s)
        elif self._pid is not None:
            # Most calls end before the processor time is read even once.
            self._clock = ProcessTime(self._pid)
        self._spent_s += passed_s
        return None if self._spent_s >= 0.99 * self._seconds else self._next_look()

    def _next_look(self) -> float:
        left_s = self._seconds - self._spent_s
        if self._pid is not None:
            left_s = max(min(left_s, self._seconds / _LOOKS), _LEAST_LOOK_S)
        return self._seen + left_s

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _watch.remove(self)


class _Watch:
    """The deadlines that are running, and one thread that waits for the first of them.

    A hybrid run makes hundreds of calls that are shorter than starting a thread. A block that ends
    in time does not wake the waiting thread, so equal timeouts wake it once in that time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._looks: dict[Deadline, float] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline, look: float) -> None:
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._looks[deadline] = look
            if look < self._wakes_at:
                self._changed.notify()

    def remove(self, deadline: Deadline) -> None:
        with self._changed:
            self._looks.pop(deadline, None)

    def _run(self) -> None:
        while True:
            for deadline in self._wait():
                # In a thread of its own: it may take long or raise.
                threading.Thread(target=deadline.on_expiry, daemon=True).start()

    def _wait(self) -> list[Deadline]:
        with self._changed:
            self._wakes_at = min(self._looks.values(), default=math.inf)
            seconds = max(self._wakes_at - time.monotonic(), 0)
            self._changed.wait(min(seconds, threading.TIMEOUT_MAX))
            now = time.monotonic()
            expired = []
            for deadline in [one for one, look in self._looks.items() if look <= now]:
                look = deadline.look(now)
                if look is None:
                    deadline.is_expired = True
                    del self._looks[deadline]
                    expired.append(deadline)
                else:
                    self._looks[deadline] = look
            return expired


_watch = _Watch()


def _renew_watch() -> None:
    """Start without the parent's deadlines: a fork lacks the thread that may hold their lock."""
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_renew_watch)
