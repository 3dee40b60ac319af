"""What the system refused and nobody has put into words: whose fault it is, and what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from relax_tapml.errors import MachineError, TapmlError, UsageError

_RUN_AGAIN = "and run again; a build goes on with --resume"
_FIXES = {
    errno.ENOSPC: f"Free some space there {_RUN_AGAIN}",
    errno.EDQUOT: f"Free some of your quota {_RUN_AGAIN}",
    errno.ENOMEM: f"Free some memory {_RUN_AGAIN}",
    errno.EAGAIN: f"End other processes, or raise 'ulimit -u', {_RUN_AGAIN}",
    errno.EMFILE: f"Raise 'ulimit -n', the number of open files, {_RUN_AGAIN}",
    errno.ENFILE: f"Close files of other programs {_RUN_AGAIN}",
    errno.EACCES: "Check the rights of this user there",
    errno.EPERM: "Check the rights of this user there",
    errno.EROFS: "Name a place that can be written to",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ELOOP: "Mend the symbolic links",
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
# How libraries in Rust and C++, and errors that were wrapped, say what the system told them.
_OS_ERROR = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
_NO_MEMORY = re.compile(r"\bbad_alloc\b")
# How pathlib says it.
_LOOP = re.compile(r"Symlink loop from '(.+)'")
_HARDLY_BYTES = 1 << 20
_SHOWN = 200
_NO_THREAD = "can't start new thread"
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
    number = _number(error)
    if isinstance(error, OSError):
        files = [os.fsdecode(f) for f in (error.filename, error.filename2) if _is_path(f)]
        words = error.strerror or str(error) or type(error).__name__
        if not files:
            return _refused(words, number, args)
        kind = UsageError if number in _WRONG_PATHS and _is_given(files[0], args) else MachineError
        message = f"cannot use {' and '.join(files)}: {words}"
        for file in files:
            if (missing := _missing_end(file)) is not None:
                message += f". It is a symbolic link to {missing}, which is not there"
        return kind(_sentences(message, number))
    if isinstance(error, sqlite3.Error):
        is_full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
        number = errno.ENOSPC if is_full else None
        return MachineError(_sentences(f"cannot use a database: {error}", number))
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
    if number is None:
        return None
    return _refused(str(error) or os.strerror(number), number, args)


def _refused(words: str, number: int | None, args: Namespace) -> MachineError:
    """Return what to tell where the system has not said which file it was about."""
    message = f"the system refused an operation: {words}"
    if number in (errno.ENOSPC, errno.EDQUOT) and (places := _full_places(args)):
        message += f". There is hardly any space left in {' and '.join(places)}"
    return MachineError(_sentences(message, number))


def _number(error: Exception) -> int | None:
    """Return the number that the system gave an error, or would have given it."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return errno.ENOMEM
    if isinstance(error, RuntimeError) and text == _NO_THREAD:
        return errno.EAGAIN
    told = _OS_ERROR.search(text)
    return int(told[1] or told[2]) if told else None


def _sentences(message: str, number: int | None) -> str:
    fix = _FIXES.get(number) if number is not None else None
    return f"{message}. {fix}" if fix else message


def _full_places(args: Namespace) -> list[str]:
    """Return the folders of the command line, and the one for temporary files, that are full."""
    full: set[str] = set()
    places: list[Callable[[], str]] = [tempfile.gettempdir]
    places += [partial(_existing, given) for given in _given(args)]
    for place in places:
        with suppress(OSError, ValueError):
            folder = place()
            if shutil.disk_usage(folder).free < _HARDLY_BYTES:
                full.add(folder)
    return sorted(full)


def _existing(given: str) -> str:
    """Return the part of a path that exists; raise ``ValueError`` for what is only a word."""
    path = Path(given)
    existing = next(place for place in (path, *path.parents) if place.exists())
    if existing == Path():
        raise ValueError(given)
    return str(existing)


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
