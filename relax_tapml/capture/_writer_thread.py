"""The thread that hashes and writes the events that a recorder's runs queue."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import tvm_ffi

from relax_tapml.capture._events import EventWriter
from relax_tapml.capture._hashing import Hashing
from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.errors import StoreError

_DRAIN_EVENTS = 32  # Drained tensors count against the budget until the batch is done.
_DRAIN_MS = 20
_FLUSH_S = 1.0


class WriterThread(threading.Thread):
    """Drain the native queue, and run the recorder's actions in their place among the events.

    After a failure it continues to drain, so that no run waits for ever, and fails every action.
    The functions of the queue are global, so a model's own code can call them: an unknown mark, or
    one of the recorder that does not arrive, is a failure too. If the thread ends, so does the
    recording.

    Parameters
    ----------
    writer, events
        Used by this thread alone from ``start`` to ``finish``, which closes the writer.
    segment_bytes
        Flush when this much is held. Runs wait while the budget is used up, so it must be less.
    """

    def __init__(self, writer: StoreWriter, events: EventWriter, *, segment_bytes: int) -> None:
        super().__init__(name="relax_tapml.capture", daemon=True)
        self._writer = writer
        self._events = events
        self._hashing = Hashing()
        self._segment_bytes = segment_bytes
        self._actions: dict[str, tuple[Callable[[], None], Future[None]]] = {}
        # Actions whose marks are in the queue.
        self._marked: set[str] = set()
        # Protects the two above, and whether the thread still processes them.
        self._lock = threading.Lock()
        self._is_over = False
        self._is_stopping = False
        self._failure: StoreError | None = None
        self._is_failure_reported = False

    def do(self, action: Callable[[], None]) -> None:
        """Run an action after all events so far, and wait for it.

        Raises
        ------
        StoreError
            The action raised it, or writing failed before.
        """
        future: Future[None] = Future()
        token = secrets.token_hex(8)
        with self._lock:
            if self._is_over:
                self._is_failure_reported = True
                raise self._failure or StoreError("Recording has ended.")
            self._actions[token] = action, future
        try:
            tvm_ffi.get_global_func("relax_tapml.capture.mark")(token)
        except RuntimeError as error:
            # The queue stops before the thread says that it is over.
            with self._lock:
                self._actions.pop(token, None)
                self._is_failure_reported = self._is_failure_reported or bool(self._failure)
            raise self._failure or _stopped(error) from error
        self._marked.add(token)
        future.result()

    def finish(self) -> StoreError | None:
        """Write what is queued and end; return a failure that no action has reported."""
        tvm_ffi.get_global_func("relax_tapml.capture.stop")()
        # Not in this class's own thread: the model may read TVM's registry meanwhile.
        tvm_ffi.get_global_func("relax_tapml.capture.unwatch_caches")()
        self._is_stopping = True
        self.join()
        return None if self._is_failure_reported else self._failure

    def run(self) -> None:
        """Drain until stopped and empty."""
        drain = tvm_ffi.get_global_func("relax_tapml.capture.drain")
        try:
            is_last = False
            while not is_last:
                is_stopping = self._is_stopping
                marked = set(self._marked)
                is_idle = self._handle(drain(_DRAIN_EVENTS, _DRAIN_MS)) == 0
                for token in marked & self._actions.keys() if is_idle else ():
                    self._guard(partial(_refuse, "a mark of the recorder was drained elsewhere"))
                    self._take(token)
                is_last = is_stopping and is_idle
                if self._is_flush_due(is_idle=is_idle) or is_last:
                    self._guard(self._writer.flush)
        except BaseException as error:
            self._failure = self._failure or _stopped(error)
        finally:
            # Runs that wait for the budget continue.
            tvm_ffi.get_global_func("relax_tapml.capture.stop")()
            with self._lock:
                self._is_over = True
            for token in list(self._actions):
                self._take(token)
            self._hashing.close()
            self._writer.close()

    def _handle(self, events: Any) -> int:
        tensors: dict[int, HostTensor] = {}
        self._guard(lambda: tensors.update(self._hashing.hashed(events)))
        for event in events:
            if event[0] == "mark":
                self._take(event[1])
            else:
                self._guard(partial(self._events.apply, event, tensors))
            if self._is_flush_due(is_idle=False):
                self._guard(self._writer.flush)
        return len(events)

    def _take(self, token: str) -> None:
        """Run the action of a mark, or fail it if writing has failed."""
        self._marked.discard(token)
        found = self._actions.pop(token, None)
        if found is None:
            self._guard(partial(_refuse, f"a mark {token!r} that is not the recorder's"))
        else:
            self._act(*found)

    def _is_flush_due(self, *, is_idle: bool) -> bool:
        if self._writer.held_bytes >= self._segment_bytes or self._writer.held_s >= _FLUSH_S:
            return True
        # A run may wait for the held tensors.
        return is_idle and self._writer.held_bytes > 0 and self._stats()["waiting"] > 0

    def _act(self, action: Callable[[], None], future: Future[None]) -> None:
        error: StoreError | None = None

        def act() -> None:
            nonlocal error
            try:
                action()
            except StoreError as refusal:  # The request was wrong; the writer still works.
                error = refusal

        self._guard(act)
        if self._failure is not None:
            self._is_failure_reported = True
            error = self._failure
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _guard(self, action: Callable[[], None]) -> None:
        """Run an action unless writing has failed; record its failure."""
        if self._failure is not None:
            return
        try:
            action()
        except Exception as error:
            self._failure = _stopped(error)
            self._writer.abandon()

    def _stats(self) -> Any:
        return tvm_ffi.get_global_func("relax_tapml.capture.stats")()


def _refuse(what: str) -> None:
    raise ValueError(
        f"{what}: code of the model calls relax_tapml.capture.mark or drain, which it must not"
    )


def _stopped(error: BaseException) -> StoreError:
    failure = StoreError(
        f"Recording stopped: {error}. The sample is incomplete; "
        "remove the cause and record it again with a new recorder."
    )
    failure.__cause__ = _without_frames(error)
    return failure


def _without_frames(error: BaseException) -> BaseException:
    """Drop the frames of an error, which keep drained tensors and so the budget's bytes."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
