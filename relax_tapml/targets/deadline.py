"""A watchdog for calls that cannot be told to give up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class Deadline:
    """Run ``on_expiry`` in another thread if the ``with`` block takes longer than ``seconds``.

    A blocked foreign call releases the interpreter lock, so the other thread can end what it
    waits for (a process, a connection); the call then fails and ``is_expired`` tells why.
    """

    def __init__(self, seconds: float, on_expiry: Callable[[], None]) -> None:
        self.is_expired = False
        self._on_expiry = on_expiry
        self._lock = threading.Lock()
        self._is_over = False
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def _expire(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self.is_expired = True
        self._on_expiry()

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._is_over = True
        self._timer.cancel()
