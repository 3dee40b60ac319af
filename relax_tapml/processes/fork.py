"""Run work that may crash its process in a fork, which sends its results back."""

from __future__ import annotations

import builtins
import ctypes
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn

import ml_dtypes
import numpy as np
import tvm

from relax_tapml import errors
from relax_tapml.arrays import Array
from relax_tapml.errors import MachineError, TapmlError
from relax_tapml.files.machine import lack_in
from relax_tapml.printable import message_line
from relax_tapml.processes.child import ending_text, is_kill
from relax_tapml.processes.interrupt import ENDING, OnInterrupt
from relax_tapml.system import FORKS_ARE_SAFE

MOST_KILLS = 3
"""How often work is started whose process is killed from outside."""

_NOTE_BYTES = 4096
_PRINTED_BYTES = 2000
_FATAL = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


_forking = threading.Lock()


def _renew_lock() -> None:
    """Give a fork a free lock: the lock is held while a fork is made."""
    global _forking
    _forking = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True, kw_only=True)
class Message:
    """A result of a fork: a JSON document, and arrays."""

    document: Any
    arrays: tuple[Array, ...] = ()


class ForkFailed(Exception):  # noqa: N818 - the field's word
    """A fork ended before its work was done.

    Parameters
    ----------
    cause
        How it ended, for a message: ``was terminated by SIGSEGV``.
    at
        The text of its last ``note``.
    printed
        The end of what it printed.
    is_killed
        Whether it was killed from outside: by another process, or by the system for want of memory.
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
        if not self.printed.strip():
            return self.cause
        return f"{self.cause} ({message_line(self.printed, -1)})"


class ForkRetries:
    """Decides whether work is repeated whose fork failed for a reason outside of it.

    Parameters
    ----------
    doing
        What the forks do, for a message: ``replaying the suite on llvm``.
    most_kills
        How often forks may be killed before ``allows`` raises.
    """

    def __init__(self, doing: str, *, most_kills: int = MOST_KILLS) -> None:
        self._doing = doing
        self._most_kills = most_kills
        self._kills = 0

    def allows(self, failure: ForkFailed) -> bool:
        """Whether a fork was killed from outside, so that its work is to be done again.

        Raises
        ------
        MachineError
            That has happened ``most_kills`` times, or the machine lacked something.
        """
        if lack := lack_in(failure.printed):
            raise lack.error(self._doing) from failure
        self._kills += failure.is_killed
        if self._kills >= self._most_kills:
            often = f", {self._kills} times" if self._kills > 1 else ""
            raise MachineError(
                f"{self._doing}: its process {failure.cause}{often}. The "
                "system does that where memory is short: close other programs, or use a machine "
                "with more memory, then run it again; a build goes on with --resume"
            ) from failure
        return failure.is_killed


@dataclass(kw_only=True)
class ForkChannel:
    """What work reports through; this class is for work that runs in the caller's process."""

    messages: list[Message] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Record what is done next, in memory that outlives a crash."""

    def send(self, document: Any, arrays: Sequence[Array] = ()) -> None:
        """Send a result at once; results that are not sent are lost in a crash."""
        self.messages.append(Message(document=document, arrays=tuple(arrays)))


class _PipeChannel(ForkChannel):
    """The channel of a fork: a pipe to its parent."""

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
        """Send the exception that the work raised."""
        kind = type(error)
        raised = {"kind": kind.__name__, "text": str(error), "trace": traceback.format_exc()}
        self._write({"raised": raised}, [])

    def _write(self, header: dict[str, Any], arrays: Sequence[Array]) -> None:
        self._pipe.write(json.dumps(header).encode() + b"\n")
        for array in arrays:
            self._pipe.write(array.tobytes())
        self._pipe.flush()


class ForkGroup:
    """Forks that are ended together, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self.is_ended = False

    def end(self) -> None:
        """End the forks that live, and those that are started later."""
        with self._lock:
            self.is_ended = True
            for pid in self._pids:
                _kill(pid)

    def _add(self, pid: int) -> None:
        with self._lock:
            self._pids.add(pid)
            if self.is_ended:
                _kill(pid)

    def _remove(self, pid: int) -> None:
        """Forget a fork before its end is collected: another process may get its number then."""
        with self._lock:
            self._pids.discard(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def without_forks() -> Iterator[None]:
    """Let no other thread fork in the block, as while something is printed.

    A fork that is made while a stream is locked finds it locked for ever.
    """
    with _forking:
        yield


def can_fork(target: tvm.target.Target) -> bool:
    """Whether code for a target can be run in a fork: on a CPU, where ``FORKS_ARE_SAFE``.

    No GPU driver survives a fork, and a fault of a GPU's kernel is an error of the call.
    """
    device = tvm.runtime.device_from_target(target)
    return bool(FORKS_ARE_SAFE and device.__device_type_name__() == "cpu")


def forked(
    work: Callable[[ForkChannel], None], *, is_safe: bool = True, group: ForkGroup | None = None
) -> Iterator[Message]:
    """Do work in a fork of this process, and yield what it sends, as it comes.

    A fork has everything that this process has, closures and loaded kernels included, and costs
    some milliseconds. Its changes to memory, and its crash, do not reach this process; its changes
    to files do. It must not use connections that this process has open (RPC sessions, SQLite).

    The work runs in a new thread, which gets its own pool of TVM threads: the threads of this
    process do not exist in a fork. Its output is printed when it has ended with success. The fork
    ends with this process.

    Parameters
    ----------
    work
        Gets the channel it reports through.
    is_safe
        From ``can_fork``; otherwise the work runs in this process, unprotected.
    group
        Can end the fork from another thread; it then fails as killed.

    Raises
    ------
    ForkFailed
        A signal ended it, or it exited by itself.
    OSError
        No process could be started.
    TapmlError
        The work raised one. Other exceptions are raised as the built-in class of that name, or else
        as ``RuntimeError``, with the fork's traceback as a note.
    """
    if not is_safe:
        channel = ForkChannel()
        work(channel)
        yield from channel.messages
        return
    notes = mmap.mmap(-1, _NOTE_BYTES)
    with tempfile.TemporaryFile() as printed:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # One at a time: another fork must not keep the far ends of these pipes open.
        with _forking, warnings.catch_warnings():
            results, results_end = os.pipe()
            life, life_end = os.pipe()  # read in the fork: ends when this process does
            # Python warns that threads are lost; the work has a thread of its own.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = 0
            try:
                # Python drops an exception that is raised around a fork: delay the signals to end.
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
        group = group or ForkGroup()
        group._add(pid)
        is_over, code = False, 0
        try:
            with os.fdopen(results, "rb") as pipe:
                while (message := _received(pipe)) is not None:
                    yield message
            group._remove(pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            is_over = True
        finally:
            os.close(life_end)
            group._remove(pid)
            if not is_over:
                _kill(pid)
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
    """Return all that ``forked`` yields, repeating the work as ``retries`` allows.

    Raises what ``forked`` and ``ForkRetries.allows`` raise.
    """
    while True:
        try:
            return list(forked(work, is_safe=is_safe))
        except ForkFailed as failure:
            if not retries.allows(failure):
                raise


def _nothing() -> None:
    """Do nothing: ``OnInterrupt`` records the signal."""


def _received(pipe: IO[bytes]) -> Message | None:
    """Return the next message, None at the end; raise the exception of the work."""
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
        with suppress(TypeError):  # a class with other arguments
            error = found(text)
            error.add_note(trace)
            return error
    other = RuntimeError(f"{kind}: {text}")
    other.add_note(trace)
    return other


def _own_descriptors() -> list[int]:
    """Return those that Python prints to, if they are others than those of C++."""
    found = []
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            found.append(stream.fileno())
    return found


def _exit_at_once() -> None:
    """Let ``exit`` of C, as LLVM calls it for a full disk, end this fork without clearing up.

    Threads are lost in a fork, and libraries would wait for theirs, as onnxruntime does.
    """
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # Only glibc has it.
        # What is registered last is called first: _exit(status).
        libc.on_exit(libc._exit, None)


def _in_fork(
    work: Callable[[ForkChannel], None],
    notes: mmap.mmap,
    results: int,
    life: int,
    printed: IO[bytes],
    parents: Sequence[int],
) -> NoReturn:
    """Do the work and end; ``parents`` are descriptors of the parent, to be closed."""
    try:
        for descriptor in parents:
            os.close(descriptor)
        # Destroying a remote object of the parent would send a message on its connection.
        gc.freeze()
        faulthandler.disable()
        _exit_at_once()
        signal.set_wakeup_fd(-1)
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # the parent ends the fork
        for number in (*_FATAL, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in (1, 2, *_own_descriptors()):
            os.dup2(printed.fileno(), descriptor)

        def body() -> None:
            channel = _PipeChannel(notes, os.fdopen(results, "wb"))
            try:
                work(channel)
            except BaseException as error:
                channel.fail(error)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(0)

        threading.Thread(target=body, daemon=True).start()
        os.read(life, 1)
    finally:
        os._exit(1)
