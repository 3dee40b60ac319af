"""The end of a command from outside: Ctrl-C, SIGTERM and SIGHUP are one thing."""

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
    """Raises ``KeyboardInterrupt`` for a signal to end: whatever cleans up after Ctrl-C does so.

    Whoever closes a terminal or stops a service often sends two signals. The second one must not
    end what cleans up after the first; a second Ctrl-C may.

    Attributes
    ----------
    number
        Of the signal that came first, None if none did. It is remembered, because an exception
        that passes through TVM, as one in a pass, comes out as another one.
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
    """Let SIGTERM and SIGHUP do in the block what Ctrl-C does.

    A signal that is ignored stays so (``nohup``), and so does one that somebody else handles.
    Nothing is done in other threads than the main one.
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
    """Run ``action`` if a signal to end comes in the block, and raise the interrupt at its end.

    TVM's RPC client notices a signal while it waits, but where that raises at once, the remote
    function of the call is freed first, which waits for the server again, and holds the interpreter
    lock. So the action is to make the call fail. Nothing is done in other threads than the main
    one, nor for a signal that somebody else handles.

    Parameters
    ----------
    action
        Ends what the block waits for. Never raises.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._come: int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            handler = signal.getsignal(number)
            if isinstance(handler, Ending) or handler is signal.default_int_handler:
                self._handlers[number] = handler
                signal.signal(number, self._comes)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._come is not None:
            self._handlers[self._come](self._come, None)

    def _comes(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._come is None:
            self._come = number
        self._action()
