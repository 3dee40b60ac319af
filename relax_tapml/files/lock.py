"""One writer at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from relax_tapml.errors import UsageError

LOCK_FILE = ".lock"


class FolderLock:
    """Keep other processes from writing to a folder until ``close``, or until we end.

    The lock is the kernel's, on ``.lock`` in the folder: it ends with the process however that
    ends, and is shared by its forks. The file stays; it says who had the lock last.

    Parameters
    ----------
    folder
        It must exist.
    option
        How the user named it, for the message.

    Raises
    ------
    UsageError
        Another process has it; the message says which.
    """

    def __init__(self, folder: Path, option: str) -> None:
        self._file = (folder / LOCK_FILE).open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = _holder(self._file.read())
            self._file.close()
            raise UsageError(
                f"{option}: {holder} is writing to this folder. Wait for its end, end it, or name "
                "another folder"
            ) from None
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(0)
        about = {"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv[:3]}
        json.dump(about, self._file)
        self._file.flush()

    def close(self) -> None:
        """Let others write. May be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _holder(text: str) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        known = json.loads(text)
        return f"process {known['pid']} on {known['host']} ({' '.join(known['command'])})"
    return "another process"
