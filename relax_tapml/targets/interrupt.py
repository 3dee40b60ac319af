"""Ctrl-C while the main thread waits for a device."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class OnInterrupt:
    """Run ``action`` if Ctrl-C comes in the block, and raise ``KeyboardInterrupt`` at its end.

    TVM's RPC client notices Ctrl-C while it waits, but where that raises at once, the remote
    function of the call is freed first, which waits for the server again, and holds the interpreter
    lock. So the action is to make the call fail. Nothing is done in other threads than the main
    one, nor where somebody else handles the signal.

    Parameters
    ----------
    action
        Ends what the block waits for. Never raises.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._is_watching = False
        self._has_come = False

    def __enter__(self) -> None:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._is_watching = True
            signal.signal(signal.SIGINT, self._come)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_watching:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._has_come:
            raise KeyboardInterrupt from error

    def _come(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._has_come = True
        self._action()
