"""Scratch folders, which the next run removes where one was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_PREFIX = ".relax_tapml-"
_LOCK = ".in_use"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, and remove it with all that is in it at the end of the block.

    While the block runs, its file ``.in_use`` is locked, in this process and its forks. The lock
    goes with the process, so ``sweep`` can tell a folder that is in use from one that was left.

    Parameters
    ----------
    parent
        Where it is made; the system's folder for temporary files by default. What is left there
        by others is removed first.
    """
    where = Path(tempfile.gettempdir()) if parent is None else parent
    sweep(where)
    folder, lock = _locked(where)
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _locked(parent: Path) -> tuple[Path, IO[bytes]]:
    """Make a folder; return it with the file that is locked for as long as it is open."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with suppress(FileNotFoundError):
            lock = (folder / _LOCK).open("wb")
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have swept it before it was locked.
            if (folder / _LOCK).exists():
                return folder, lock
            lock.close()


def sweep(parent: Path) -> None:
    """Remove the scratch folders in a folder that no process uses any more.

    Only folders of this user are touched. Never raises ``OSError``.
    """
    with suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                    continue
                with (folder / _LOCK).open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
