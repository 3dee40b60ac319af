"""The one way to replace a file or a folder: readers see the old or the new, never a part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relax_tapml.files.scratch import scratch_folder


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

    It has the suffix of ``path``, for programs that look at it, and lies in a scratch folder
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
        What is there already, if anything, is removed; if the move fails, it is put back. Missing
        parents are made.
    check
        Opens what was written, and raises an error if it is not as it should be: then ``path``
        stays as it was.
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
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    _synchronise(path.parent)


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
