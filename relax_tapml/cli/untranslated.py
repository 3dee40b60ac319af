"""What the system refused and nobody has put into words: whose fault it is, and what to do."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from relax_tapml.errors import MachineError, TapmlError, UsageError
from relax_tapml.files.machine import lack_of

_FIXES = {
    errno.ENAMETOOLONG: ". Choose a shorter name",
    errno.ELOOP: ". Mend the symbolic links",
}
# Where one of these is met at a path of the command line, another path would do.
_WRONG_PATHS = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
}
# How pathlib says it.
_LOOP = re.compile(r"Symlink loop from '(.+)'")
_SHOWN = 200
_REFUSED = "the system refused an operation"
_NUL = "embedded null"


def environment_error(error: Exception, args: Namespace) -> TapmlError | None:
    """Return what to tell of an error that comes from the system that we run on.

    Parameters
    ----------
    error
        Raised by a command.
    args
        The command's arguments.

    Returns
    -------
    TapmlError
        A ``UsageError`` where a path of the command line is wrong, otherwise a ``MachineError``.
        None for errors that do not come from the system.
    """
    if isinstance(error, RuntimeError) and (loop := _LOOP.fullmatch(str(error))):
        error = OSError(errno.ELOOP, os.strerror(errno.ELOOP), loop[1])
    files = []
    if isinstance(error, OSError):
        files = [os.fsdecode(f) for f in (error.filename, error.filename2) if _is_path(f)]
        if files and error.errno in _WRONG_PATHS and _is_given(files[0], args):
            return UsageError(_path_text(error, files))
    if (lack := lack_of(error)) is not None:
        out = getattr(args, "out", None)
        return lack.error(_REFUSED, *([out] if isinstance(out, Path) else []))
    if files:
        assert isinstance(error, OSError)
        return MachineError(_path_text(error, files))
    if isinstance(error, OSError):
        return MachineError(f"{_REFUSED}: {error.strerror or error or type(error).__name__}")
    if isinstance(error, sqlite3.Error):
        return MachineError(f"cannot use a database: {error}")
    if isinstance(error, UnicodeEncodeError):
        lacking = error.object[error.start : error.end]
        kind = UsageError if any(lacking in given for given in _given(args)) else MachineError
        return kind(
            f"cannot write {error.object[:_SHOWN]!r} in {error.encoding}. Choose a name of plain "
            "letters, or a locale with UTF-8, such as LC_ALL=C.UTF-8"
        )
    if isinstance(error, ValueError) and str(error).startswith(_NUL):
        for given in _given(args):
            if "\0" in given:
                return UsageError(f"{given!r}: no name of a file has a NUL character")
        return MachineError("a name of a file that was read has a NUL character")
    return None


def _path_text(error: OSError, files: list[str]) -> str:
    message = f"cannot use {' and '.join(files)}: {error.strerror}"
    for file in files:
        if (missing := _missing_end(file)) is not None:
            message += f". It is a symbolic link to {missing}, which is not there"
    return message + _FIXES.get(error.errno or 0, "")


def _is_path(name: Any) -> bool:
    return isinstance(name, str | bytes | os.PathLike)


def _is_given(file: str, args: Namespace) -> bool:
    """Whether a file is one that the command line names, or a folder that one lies in."""
    try:
        path = Path(os.path.abspath(file))  # noqa: PTH100 - without following links
        named = [Path(os.path.abspath(given)) for given in _given(args)]  # noqa: PTH100
    except OSError:  # the current folder is gone
        return False
    return any(path == place or path in place.parents for place in named)


def _missing_end(file: str) -> Path | None:
    """Return what a symbolic link leads to if that does not exist."""
    with suppress(OSError, ValueError):
        link = Path(file).readlink()
        if not Path(file).exists():
            return link
    return None


def _given(args: Namespace) -> Iterator[str]:
    for value in vars(args).values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str | os.PathLike):
                yield os.fspath(item)
