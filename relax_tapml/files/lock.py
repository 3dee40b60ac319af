"""One writer at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
from pathlib import Path
from typing import TextIO

from relax_tapml.errors import UsageError
from relax_tapml.files.closing import Closing

LOCK_FILE = ".lock"


class FolderLock(Closing):
    """Keep other processes from writing to a folder until ``close``, or the end of this process.

    The lock is one of the system, on the file ``.lock`` in the folder: it ends with the process
    however that ends, and is shared by its forks. The file names the process and is removed with
    the lock; the file of a process that was killed is used again.

    Parameters
    ----------
    folder
        It must exist.
    option
        The option that named it, for the message.

    Raises
    ------
    UsageError
        Another process has it; the message names that.
    """

    def __init__(self, folder: Path, option: str) -> None:
        self._path = folder / LOCK_FILE
        while True:
            self._file = _locked(self._path, option)
            # The last owner may have removed the file whose lock was just taken.
            if _is_at(self._file, self._path):
                break
            self._file.close()
        self._file.truncate(0)
        about = {"pid": os.getpid(), "host": socket.gethostname(), "command": sys.argv[:3]}
        json.dump(about, self._file)
        self._file.flush()

    def close(self) -> None:
        """Let others write. May be called twice."""
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._file.close()


def _locked(path: Path, option: str) -> TextIO:
    """Open a file and lock it. Raises ``UsageError`` if another process has the lock."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = _owner(file.read())
        file.close()
        raise UsageError(
            f"{option}: {owner} is writing to this folder. Wait for its end, end it, or name "
            "another folder"
        ) from None
    except BaseException:
        file.close()
        raise
    return file


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _owner(text: str) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']} ({' '.join(owner['command'])})"
    return "another process"
