"""Scratch folders; those that a killed process left are removed by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from relax_tapml.files.closing import Closing

_PREFIX = ".relax_tapml-"
_LOCK = ".in_use"
# Where this process has swept already; doing so again would find little.
_swept: set[Path] = set()


class ScratchFolder(Closing):
    """A new folder, which is removed with all that is in it by ``close``.

    Until then its file ``.in_use`` is locked, by this process and its forks. The lock ends with
    the process, so ``sweep`` distinguishes folders in use from those that were left.

    Parameters
    ----------
    parent
        Where it is made; the system's folder for temporary files by default. It is swept first,
        once in each process.

    Raises
    ------
    OSError
        It cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        where = Path(tempfile.gettempdir()) if parent is None else parent
        if where not in _swept:
            sweep(where)
        self.path, self._lock = _locked(where)

    def close(self) -> None:
        """Remove the folder. Never raises ``OSError``; may be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield the path of a ``ScratchFolder`` that lasts as long as the block."""
    with ScratchFolder(parent) as folder:
        yield folder.path


def _locked(parent: Path) -> tuple[Path, IO[bytes]]:
    """Make a folder; return it with the file that is locked for as long as it is open."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            lock = (folder / _LOCK).open("wb")
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have swept it before it was locked.
            if (folder / _LOCK).exists():
                return folder, lock
            lock.close()
        except FileNotFoundError:
            continue
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def is_scratch(path: Path) -> bool:
    """Whether a path has the name of a scratch folder."""
    return path.name.startswith(_PREFIX)


def sweep(parent: Path) -> None:
    """Remove those scratch folders in a folder that no process uses any more.

    Only folders of this user are touched. Never raises ``OSError``.
    """
    _swept.add(parent)
    with suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                    continue
                _remove_if_left(folder)


def _remove_if_left(folder: Path) -> None:
    try:
        lock = (folder / _LOCK).open("rb")
    except FileNotFoundError:
        content = [path.name for path in folder.iterdir()]
        if not content:
            # Its process was killed before it made the lock, or makes it next and notices.
            folder.rmdir()
        elif _LOCK not in content:
            # The lock is made first, so its process was killed while it removed the folder.
            shutil.rmtree(folder, ignore_errors=True)
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
