"""Standard output and standard error of a command."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

from relax_tapml.errors import ExitCode
from relax_tapml.printable import printable

_STDERR = 2
_COPY = Path(__file__).with_name("_repeated_warnings.py")
_COPYING_S = 1.0


class Sink:
    """A stream that never raises, and keeps its first failure.

    Characters that the encoding lacks are written as escapes. After a failure nothing is written
    any more, so that a reader gets the beginning of the text and no gaps.

    Parameters
    ----------
    stream
        None for one that was closed before the process began.

    Attributes
    ----------
    failure
        Why something was not written; None if all was.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text."""
        if self.failure is None:
            try:
                if self._stream is None:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                data = text.encode(self.encoding, "backslashreplace")
                self._stream.write(data.decode(self.encoding))
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Write buffered text."""
        if self.failure is None and self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Return its file descriptor. Raises ``OSError`` if it has none."""
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        # The interpreter flushes the stream again when it ends, and would print an error.
        with suppress(OSError):
            descriptor = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


class PrintableStream:
    """A stream that escapes control characters in its text, by ``printable``.

    Parameters
    ----------
    stream
        Where to write to: a ``Sink``, or rich's proxy of one during a progress bar.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def rich_proxied_file(self) -> Any:
        """The sink. Rich, whose control sequences must not be escaped, reads this attribute."""
        return sink_of(self._stream)

    def write(self, text: str) -> int:
        """Write a text."""
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _FoldedStderr:
    """Print what C++ writes to file descriptor 2 without repeating TVM's warnings.

    The descriptor becomes a pipe to a process that copies its text (``_repeated_warnings``).
    Python's own stream gets a descriptor of its own for what was there. Where the process cannot be
    started, or ``sys.stderr`` is something else, nothing is changed.

    Attributes
    ----------
    stream
        For Python's own text; None where nothing was changed.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream: TextIO | None = None
        self._copying: subprocess.Popen[bytes] | None = None
        try:
            if stream is None or stream.fileno() != _STDERR:
                return
            self._copying = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_COPY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # The reader of ours must not wait for it.
                stderr=_STDERR,
                start_new_session=True,  # A signal of the terminal is for this process.
            )
        except (OSError, ValueError):
            return
        stream.flush()
        assert self._copying.stdin is not None
        self.stream = os.fdopen(
            os.dup(_STDERR), "w", encoding=stream.encoding, errors=stream.errors, buffering=1
        )
        os.dup2(self._copying.stdin.fileno(), _STDERR)
        self._copying.stdin.close()

    def end(self) -> None:
        """Give the descriptor back, and wait a moment for text that is under way."""
        if self._copying is None or self.stream is None:
            return
        copying, self._copying = self._copying, None
        with suppress(OSError):
            self.stream.flush()
        os.dup2(self.stream.fileno(), _STDERR)
        with suppress(subprocess.TimeoutExpired):
            # Longer, if a process that was left behind can still write.
            copying.wait(_COPYING_S)


class StandardStreams:
    """Make ``sys.stdout`` and ``sys.stderr`` printable sinks in the block.

    A command can write to them without handling errors. If the reader of stdout leaves
    (``| head``), the command continues and ends as usual. All other failures of standard output,
    such as a full disk, are reported at the end, by ``finish``. What cannot be written to standard
    error is lost.

    Parameters
    ----------
    is_folded
        Print each of TVM's warnings once, and how often it came at the end.
    """

    def __init__(self, *, is_folded: bool = False) -> None:
        _keep_descriptors()
        self._previous = sys.stdout, sys.stderr
        self._folded = _FoldedStderr(sys.stderr) if is_folded else None
        own = None if self._folded is None else self._folded.stream
        self._out, self._err = Sink(sys.stdout), Sink(own or sys.stderr)

    def __enter__(self) -> StandardStreams:
        sys.stdout, sys.stderr = printable_stream(self._out), printable_stream(self._err)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.stdout, sys.stderr = self._previous

    def finish(self, code: int) -> int:
        """Write buffered text, and return the exit code of a command that ends with ``code``.

        That is 3 where its output was lost, unless the command failed anyway.
        """
        self._out.flush()
        failure = self._out.failure
        if failure is not None and not isinstance(failure, ConnectionError):
            self._err.write(
                f"error: cannot write to standard output: {failure.strerror or failure}\n"
            )
            if code in (ExitCode.PASS, ExitCode.MISMATCH):
                code = int(ExitCode.INCONCLUSIVE)
        self._err.flush()
        if self._folded is not None:
            self._folded.end()
        return code


def sink_of(stream: Any) -> Any:
    """Return the sink of a printable stream, or the stream itself if it is none."""
    return getattr(stream, "rich_proxied_file", stream)


def printable_stream(stream: Any) -> TextIO:
    """Return a ``PrintableStream`` on another stream."""
    return cast(TextIO, PrintableStream(stream))


def _keep_descriptors() -> None:
    """Open closed standard descriptors on the null device.

    Otherwise the next opened file would have their number, and get the output of C++ code.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
