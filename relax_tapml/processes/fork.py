"""Work that may kill its process, done in a fork of ours that hands back what it found."""

from __future__ import annotations

import builtins
import faulthandler
import gc
import json
import mmap
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn

import ml_dtypes
import numpy as np
import tvm

from relax_tapml import errors
from relax_tapml.arrays import Array
from relax_tapml.errors import MachineError, TapmlError
from relax_tapml.files.machine import lack_in
from relax_tapml.processes.child import ending_text, is_kill
from relax_tapml.processes.interrupt import ENDING, OnInterrupt

MOST_KILLS = 3
"""How often work is begun whose processes others end."""

_NOTE_BYTES = 4096
_PRINTED_BYTES = 2000
_FATAL = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


_forking = threading.Lock()


def _renew_lock() -> None:
    """Let a fork have forks of its own, although it began while the lock was held."""
    global _forking
    _forking = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a fork has found: a JSON document, and arrays."""

    document: Any
    arrays: tuple[Array, ...] = ()


class ForkFailed(Exception):  # noqa: N818 - the field's word
    """A fork ended before its work was done.

    Parameters
    ----------
    cause
        How, in words: ``died of SIGSEGV``.
    at
        What it noted last.
    printed
        The end of what it printed.
    is_killed
        Whether somebody ended it, which no work does to itself: another process, or the system for
        want of memory.
    """

    def __init__(self, cause: str, at: str, printed: str, *, is_killed: bool = False) -> None:
        super().__init__(f"{cause} at {at or 'its beginning'}")
        self.cause = cause
        self.is_killed = is_killed
        self.at = at
        self.printed = printed

    @property
    def text(self) -> str:
        """The cause, with the last line of what was printed."""
        lines = self.printed.strip().splitlines()
        return f"{self.cause} ({lines[-1].strip()})" if lines else self.cause


class ForkRetries:
    """Tells deaths of forks that say nothing about their work, which is then done again.

    Parameters
    ----------
    doing
        What the forks do, for a message: ``replaying the suite on llvm``.
    most_kills
        How often others may end one.
    """

    def __init__(self, doing: str, *, most_kills: int = MOST_KILLS) -> None:
        self._doing = doing
        self._most_kills = most_kills
        self._kills = 0

    def allows(self, death: ForkFailed) -> bool:
        """Whether somebody else has ended a fork, so that its work is to be done again.

        Raises
        ------
        MachineError
            That has happened too often, or the machine lacked something.
        """
        if lack := lack_in(death.printed):
            raise lack.error(self._doing) from death
        self._kills += death.is_killed
        if self._kills == self._most_kills:
            often = f", {self._kills} times" if self._kills > 1 else ""
            raise MachineError(
                f"{self._doing}: the process that did it {death.cause}{often}. The "
                "system does that where memory is short: close other programs, or use a machine "
                "with more memory, then run it again; a build goes on with --resume"
            ) from death
        return death.is_killed


@dataclass(kw_only=True)
class ForkChannel:
    """What work calls to be heard of; this one belongs to work that is done in our own process."""

    messages: list[Message] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Remember what is done next, in memory that outlives a crash."""

    def send(self, document: Any, arrays: Sequence[Array] = ()) -> None:
        """Hand a result back at once; what comes later may be lost."""
        self.messages.append(Message(document=document, arrays=tuple(arrays)))


class _PipeChannel(ForkChannel):
    """The same in a fork."""

    def __init__(self, notes: mmap.mmap, pipe: IO[bytes]) -> None:
        super().__init__()
        self._notes = notes
        self._pipe = pipe

    def note(self, text: str) -> None:
        data = text.encode(errors="replace")[: _NOTE_BYTES - 1]
        self._notes[: len(data) + 1] = data + b"\0"

    def send(self, document: Any, arrays: Sequence[Array] = ()) -> None:
        dense = [np.require(array, requirements="C") for array in arrays]
        kinds = [[array.dtype.name, list(array.shape)] for array in dense]
        self._write({"document": document, "arrays": kinds}, dense)

    def fail(self, error: BaseException) -> None:
        """Tell what the work raised."""
        kind = type(error)
        told = {"kind": kind.__name__, "text": str(error), "trace": traceback.format_exc()}
        self._write({"raised": told}, [])

    def _write(self, header: dict[str, Any], arrays: Sequence[Array]) -> None:
        self._pipe.write(json.dumps(header).encode() + b"\n")
        for array in arrays:
            self._pipe.write(array.tobytes())
        self._pipe.flush()


def can_fork(target: tvm.target.Target) -> bool:
    """Whether code for a target can be run in a fork: on the CPU of a Linux machine.

    No GPU driver survives a fork, and what is wrong in a GPU's kernel is an error of the call. On
    macOS system libraries may not be used in a fork.
    """
    device = tvm.runtime.device_from_target(target)
    return bool(sys.platform == "linux" and device.__device_type_name__() == "cpu")


def forked(work: Callable[[ForkChannel], None], *, is_safe: bool = True) -> Iterator[Message]:
    """Do work in a fork of this process, and yield what it sends, as it comes.

    A fork has everything that this process has, closures and loaded kernels included, at the price
    of some milliseconds; what it does to memory, a crash included, stays there. What it does to
    files stays. It must not use connections that this process has open (RPC sessions, SQLite).

    The work is done in a thread, which has a pool of TVM's threads of its own: the threads of this
    process do not exist in a fork. What it prints comes out when it has ended, unless it dies. It
    ends with this process.

    Parameters
    ----------
    work
        Gets what it notes and sends with.
    is_safe
        Of ``can_fork``; otherwise the work is done here, unprotected.

    Raises
    ------
    ForkDied
        It was killed by a signal, or ended itself.
    OSError
        No process could be started.
    TapmlError
        It raised one. Other exceptions come as the built-in class of that name, or else as
        ``RuntimeError``, with the fork's traceback as a note.
    """
    if not is_safe:
        here = ForkChannel()
        work(here)
        yield from here.messages
        return
    notes = mmap.mmap(-1, _NOTE_BYTES)
    with tempfile.TemporaryFile() as printed:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # One at a time: another fork must not keep the far ends of these pipes open.
        with _forking, warnings.catch_warnings():
            results, results_end = os.pipe()
            life, life_end = os.pipe()  # it is over with us: the other end is ours alone
            # That threads are lost is what the work's own thread is for.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = 0
            try:
                # What Python does around a fork drops an exception: a signal to end comes after it.
                with OnInterrupt(_nothing):
                    pid = os.fork()
                    if pid == 0:
                        _in_fork(work, notes, results_end, life, printed, (results, life_end))
            except (OSError, KeyboardInterrupt):
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                for end in (results, results_end, life, life_end):
                    os.close(end)
                raise
            os.close(results_end)
            os.close(life)
        is_over, code = False, 0
        try:
            with os.fdopen(results, "rb") as pipe:
                while (message := _received(pipe)) is not None:
                    yield message
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            is_over = True
        finally:
            os.close(life_end)
            if not is_over:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            printed.seek(0)
            text = printed.read().decode(errors="replace")
            if code == 0:
                sys.stderr.write(text)
        if code != 0:
            at = notes[:].split(b"\0")[0].decode(errors="replace")
            cause = ending_text(code) or "ended"
            raise ForkFailed(cause, at, text[-_PRINTED_BYTES:], is_killed=is_kill(code))


def collected(
    work: Callable[[ForkChannel], None], retries: ForkRetries, *, is_safe: bool = True
) -> list[Message]:
    """Return all that ``forked`` yields, doing the work again where ``retries`` excuse its end.

    Raises what ``forked`` and ``ForkRetries.allows`` raise.
    """
    while True:
        try:
            return list(forked(work, is_safe=is_safe))
        except ForkFailed as death:
            if not retries.allows(death):
                raise


def _nothing() -> None:
    """Do nothing more for a signal than to remember it."""


def _received(pipe: IO[bytes]) -> Message | None:
    """Return the next message, None at the end; raise what the work raised."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    if "raised" in header:
        raise _error(**header["raised"])
    arrays = []
    for name, shape in header["arrays"]:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        data = pipe.read(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        if len(data) < int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            return None
        arrays.append(np.frombuffer(bytearray(data), dtype=dtype).reshape(shape))
    return Message(document=header["document"], arrays=tuple(arrays))


def _error(kind: str, text: str, trace: str) -> BaseException:
    found = getattr(errors, kind, None) or getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, TapmlError):
        return found(text)
    if isinstance(found, type) and issubclass(found, Exception | KeyboardInterrupt):
        with suppress(TypeError):  # a class that wants other arguments
            error = found(text)
            error.add_note(trace)
            return error
    other = RuntimeError(f"{kind}: {text}")
    other.add_note(trace)
    return other


def _in_fork(
    work: Callable[[ForkChannel], None],
    notes: mmap.mmap,
    results: int,
    life: int,
    printed: IO[bytes],
    not_ours: Sequence[int],
) -> NoReturn:
    """Do the work and end."""
    try:
        for descriptor in not_ours:
            os.close(descriptor)
        # Destroying a remote object of our parent's would speak on its connection.
        gc.freeze()
        faulthandler.disable()
        signal.set_wakeup_fd(-1)
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # our parent ends us
        for number in (*_FATAL, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in (1, 2):
            os.dup2(printed.fileno(), descriptor)

        def body() -> None:
            there = _PipeChannel(notes, os.fdopen(results, "wb"))
            try:
                work(there)
            except BaseException as error:
                there.fail(error)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(0)

        threading.Thread(target=body, daemon=True).start()
        os.read(life, 1)
    finally:
        os._exit(1)
