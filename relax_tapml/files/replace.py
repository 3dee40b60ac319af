"""Replace files and folders atomically: readers see the old or the new one, never a part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relax_tapml.errors import UsageError
from relax_tapml.files.scratch import scratch_folder
from relax_tapml.system import exchange


def write_file(path: Path, content: str | bytes) -> None:
    """Replace a file's content; text is written as UTF-8.

    Raises
    ------
    OSError
        It cannot be written; then ``path`` is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    with new_file(path) as partial:
        partial.write_bytes(data)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of ``path`` when the block ends well.

    It has the name of ``path``, for programs that look at its suffix, and lies in a scratch folder
    beside ``path``, which a later run removes if this one is killed. Its content is on the disk
    before it has its name.
    """
    with scratch_folder(path.parent) as folder:
        partial = folder / path.name
        yield partial
        _synchronise(partial)
        partial.replace(path)
        _synchronise(path.parent)


@contextmanager
def new_folder(path: Path, *, check: Callable[[Path], object] = lambda _: None) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` when the block ends well.

    Parameters
    ----------
    path
        An existing file or folder is removed; if the move fails, it is put back. Missing parents
        are made.
    check
        Gets the new folder and raises an error if its content is wrong; ``path`` then stays as it
        was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path.parent) as scratch:
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        yield new
        check(new)
        for folder, _, files in os.walk(new):
            for file in files:
                _synchronise(Path(folder) / file)
            _synchronise(Path(folder))
        _move(new, path, old)
        _synchronise(path.parent)


def _move(new: Path, path: Path, old: Path) -> None:
    """Move ``new`` to ``path``; what was at ``path`` goes to ``old``, or to ``new``."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        if exchange(new, path):
            return
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise


def check_replaceable(folder: Path, *, replace: bool) -> None:
    """Raise ``UsageError`` if a folder is not empty and may not be replaced."""
    if not replace and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists and is not an empty folder. Choose another name or pass --force."
        )


def delete(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; nothing if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _synchronise(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
