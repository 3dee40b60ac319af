"""Ctrl-C, SIGTERM and SIGHUP: all three end a command in the same way."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

ENDING: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals by which a person or a system ends a command; not every system has all."""

_SAME_S = 2.0


class Ending:
    """A signal handler that raises ``KeyboardInterrupt``, so that all clean-up code runs.

    Closing a terminal or stopping a service often sends two signals. The second one must not
    interrupt the clean-up after the first; a second Ctrl-C may.

    Attributes
    ----------
    number
        Of the first signal that arrived, None before. It is kept, because TVM turns an exception
        that passes through it, such as one in a pass, into another.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._last = -_SAME_S

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        now = time.monotonic()
        is_first = now - self._last >= _SAME_S
        self._last = now
        self.number = self.number or number
        if is_first or number == signal.SIGINT:
            raise KeyboardInterrupt


@contextmanager
def ended_by_signals(ending: Ending) -> Iterator[None]:
    """Handle SIGTERM and SIGHUP in the block as Ctrl-C.

    An ignored signal stays ignored (``nohup``), and one with another handler keeps that.
    Does nothing outside the main thread.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in ENDING}
        usual = (signal.SIG_DFL, signal.default_int_handler)
        previous = {number: handler for number, handler in handlers.items() if handler in usual}
    for number in previous:
        signal.signal(number, ending)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class OnInterrupt:
    """Run ``action`` if a signal to end arrives in the block, and raise the interrupt at its end.

    TVM's RPC client notices a signal while it waits, but where that raises at once, the remote
    function of the call is freed first, which waits for the server again, and holds the interpreter
    lock. So the action has to make the call fail. Does nothing outside the main thread, nor for a
    signal with another handler.

    Parameters
    ----------
    action
        Ends what the block waits for. Never raises.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._arrived: int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            handler = signal.getsignal(number)
            if isinstance(handler, Ending) or handler is signal.default_int_handler:
                self._handlers[number] = handler
                signal.signal(number, self._handle)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._arrived is not None:
            self._handlers[self._arrived](self._arrived, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._arrived is None:
            self._arrived = number
        self._action()
