"""Copies what C++ prints to stderr, each of TVM's warnings once; a program of its own.

TVM repeats some warnings for every operator, such as ``Fast mode segfaults when there are
out-of-bounds indices``. Its process cannot read its own stderr without the danger of waiting for
itself, so another one does: ``python -I -S _repeated_warnings.py`` with the read end of a pipe as
its standard input. It ends when nobody can write to the pipe any more.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter

# [19:13:53] /project/include/tvm/topi/transform.h:1261: Warning: TEXT
_WARNING = re.compile(rb"\[\d\d:\d\d:\d\d\] \S+: Warning: (.*)")
_BLOCK = 1 << 16
# After how many bytes without a line break the start of a line is copied as it is.
_LONGEST = 1 << 14


class Folding:
    """Text in, text out, without lines that repeat a warning."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()
        self._rest = b""
        self._ends_line = True

    def feed(self, data: bytes) -> bytes:
        """Return what is to be printed of a piece of text, and of what was kept back before."""
        *lines, rest = (self._rest + data).split(b"\n")
        kept = [line + b"\n" for line in lines if not self._is_repeated(line)]
        # Only the start of a line that may become a warning must wait for its end.
        is_open = rest.startswith(b"[") and len(rest) < _LONGEST
        self._rest = rest if is_open else b""
        return self._told(b"".join(kept) + (b"" if is_open else rest))

    def end(self) -> bytes:
        """Return what was kept back, and a note for each warning that came again."""
        rest = self._told(self._rest)
        self._rest = b""
        notes = [
            b"TVM printed this warning %d times: %s\n" % (count, text)
            for text, count in self._counts.items()
            if count > 1
        ]
        return rest + (b"" if self._ends_line or not notes else b"\n") + b"".join(notes)

    def _told(self, text: bytes) -> bytes:
        if text:
            self._ends_line = text.endswith(b"\n")
        return text

    def _is_repeated(self, line: bytes) -> bool:
        found = _WARNING.fullmatch(line.rstrip(b"\r"))
        if found is None:
            return False
        self._counts[found[1]] += 1
        return self._counts[found[1]] > 1


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]


def main() -> None:
    """Copy standard input to standard error until it ends, whatever signals the terminal sends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folding = Folding()
    try:
        while data := os.read(0, _BLOCK):
            _write(folding.feed(data))
        _write(folding.end())
    except OSError:  # Nobody reads what is printed: go on reading, so that nobody waits.
        while os.read(0, _BLOCK):
            pass


if __name__ == "__main__":
    main()
