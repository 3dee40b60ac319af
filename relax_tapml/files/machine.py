"""Recognise failures of the machine: no disk space, memory, descriptors, rights or compiler.

Code that turns an exception into a verdict about a unit calls ``raise_machine_error`` first. The
command line calls ``reported_error`` for exceptions that no code has handled.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from relax_tapml.errors import MachineError, TapmlError, UsageError
from relax_tapml.system import install_command

_SPACE = "Free space there"
_FILES = "Close other programs, or raise the limit (ulimit -n)"
_MEMORY = "Close other programs, or use a machine with more memory"
_PROCESSES = "Close other programs, or raise the limit (ulimit -u)"
_SIZE = "Raise the limit on the size of files (ulimit -f)"
_RIGHTS = "Give this user the rights to it, or name another"
_COMPILER_COMMAND = install_command(debian="g++", macos="xcode-select --install")
_COMPILER = f"Install a C++ compiler ('{_COMPILER_COMMAND}'), and have it in PATH"
_DISK = "Check the disk"
_TMPDIR = "Make it, or name another one"

# Programs that build kernels.
_PROGRAM = r"([\w.]+-)*(g\+\+|gcc|cc|c\+\+|clang(\+\+)?|ld|as|nvcc|emcc|wasm-ld|hipcc|lld)(-\d+)?"

_AGAIN = "then run it again; a build goes on with --resume"

_FIXES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EFBIG: _SIZE,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: _DISK,
}
_SQLITE_FIXES = {
    sqlite3.SQLITE_FULL: _SPACE,
    sqlite3.SQLITE_IOERR: _SPACE,
    sqlite3.SQLITE_NOMEM: _MEMORY,
    sqlite3.SQLITE_CANTOPEN: _RIGHTS,
    sqlite3.SQLITE_READONLY: _RIGHTS,
}
# What TVM, LLVM, g++, ld, nvcc and wasm-ld print, where there is no exception with an errno.
_TEXTS = (
    (re.compile(r"file too large|file size limit exceeded|SIGXFSZ", re.I), _SIZE),
    (
        re.compile(
            r"no space left on device|disk quota exceeded|io failure on output|disk is full", re.I
        ),
        _SPACE,
    ),
    (re.compile(r"too many open files", re.I), _FILES),
    (
        re.compile(
            r"cannot allocate memory|virtual memory exhausted|out of memory allocating"
            r"|memory exhausted|std::bad_alloc|LLVM ERROR: out of memory"
            r"|killed signal terminated program|terminated with signal 9\b",
            re.I,
        ),
        _MEMORY,
    ),
    (
        re.compile(
            r"resource temporarily unavailable|cannot fork\b|fork failed|can't start new thread",
            re.I,
        ),
        _PROCESSES,
    ),
    (re.compile(r"read-only file system|\[errno 13\] permission denied", re.I), _RIGHTS),
    (re.compile(r"input/output error", re.I), _DISK),
    (
        re.compile(
            rf"no such file or directory: '({_PROGRAM})'|cannot (find|execute) .{{0,40}}(compiler"
            r"|cc1plus|['\u2018](as|ld)['\u2019]|collect2)|nvcc: (command )?not found"
            # Without Xcode's tools macOS has stand-ins for compilers, which print one of these.
            r"|invalid active developer path|no developer tools were found"
            r"|agreed to the Xcode",
            re.I,
        ),
        _COMPILER,
    ),
)
# Where the command line names a path with one of these errors, another path would do.
_WRONG_PATHS = {
    errno.ENOENT: "",
    errno.ENOTDIR: "",
    errno.EISDIR: "",
    errno.EEXIST: "",
    errno.EINVAL: "",
    errno.ENAMETOOLONG: ". Choose a shorter name",
    errno.ELOOP: ". Correct the symbolic links",
}
# The message of pathlib for ELOOP.
_LOOP = re.compile(r"Symlink loop from '(.+)'")
_REFUSED = "the system refused an operation"
_QUOTED = 200
_PROBE_BYTES = 1 << 20
_PROBE_FILES = 16


@dataclass(frozen=True, kw_only=True)
class Lack:
    """What a machine lacks.

    Parameters
    ----------
    cause
        The message of the system or of the program that failed.
    fix
        What to do, a sentence without its full stop.
    place
        The file or folder, where one is known.
    """

    cause: str
    fix: str
    place: Path | None = None

    @property
    def is_memory(self) -> bool:
        """Whether it is memory, which the failed program may have used up itself."""
        return self.fix == _MEMORY

    @property
    def text(self) -> str:
        """The cause, with the place and the free space there."""
        return f"{self.cause}{self.where}"

    @property
    def where(self) -> str:
        """The place in parentheses, after a space; empty where there is none."""
        return _free_space(self.place)

    def error(self, doing: str, *folders: Path) -> MachineError:
        """Return the error to raise.

        Parameters
        ----------
        doing
            What could not be done: ``building kernels for llvm``.
        folders
            Where disk space may be missing, beside the folder of temporary files; they are tried
            where the place is not known.
        """
        look = lack_now(*folders) if self.place is None and self.fix == _SPACE else None
        where = self.where if look is None else look.where
        return MachineError(f"{doing}: {self.cause}{where}. {self.fix}, {_AGAIN}")


def lack_of(error: BaseException) -> Lack | None:
    """Return what the machine lacked if an exception, or one behind it, reports that; else None.

    A missing file counts only if it is a program: other files are missing because nothing wrote
    them.
    """
    for one in _chain(error):
        if isinstance(one, MachineError):
            return Lack(cause=str(one), fix="")
        if isinstance(one, OSError) and (found := _of_os_error(one)):
            return found
        if isinstance(one, sqlite3.Error) and (found := _of_sqlite(one)):
            return found
        if isinstance(one, MemoryError):
            return Lack(cause=str(one) or "out of memory", fix=_MEMORY)
    for one in _chain(error):
        if found := lack_in(str(one)):
            return found
    return None


def lack_in(text: str) -> Lack | None:
    """Return what the machine lacked if the output of a program reports that; else None."""
    for pattern, fix in _TEXTS:
        if found := pattern.search(text):
            line = next(line for line in text.splitlines() if found.group().split("\n")[0] in line)
            return Lack(cause=line.strip()[-200:], fix=fix)
    return None


def lack_now(*folders: Path, compiler: bool = False) -> Lack | None:
    """Return what the machine lacks now; None if nothing.

    For failures that do not name their cause. Writes a megabyte to each folder and to the folder
    of temporary files, and opens some descriptors.

    Parameters
    ----------
    folders
        Folders to try; missing ones are left out.
    compiler
        Whether a C++ compiler is needed.
    """
    if compiler and not any(map(shutil.which, _compilers())):
        return Lack(cause=f"there is no {_compilers()[0]} in PATH", fix=_COMPILER)
    try:
        for folder in filter(Path.is_dir, (*folders, Path(tempfile.gettempdir()))):
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * _PROBE_BYTES)
                file.flush()
        with ExitStack() as files:
            for _ in range(_PROBE_FILES):
                files.callback(os.close, os.dup(0) if _is_open(0) else os.open("/", os.O_RDONLY))
    except OSError as error:
        return _of_os_error(error, place=folder)
    return None


def raise_machine_error(error: BaseException, doing: str, *folders: Path) -> None:
    """Raise ``MachineError`` if the machine caused an exception; otherwise return.

    To be called first where an exception becomes a statement about a model or a unit. The
    parameters are those of ``Lack.error``.

    Raises
    ------
    MachineError
        The machine lacked something.
    """
    for one in _chain(error):
        if isinstance(one, MachineError):
            raise one
    if found := lack_of(error):
        raise found.error(doing, *folders) from error


@contextmanager
def machine_errors(doing: str, *folders: Path) -> Iterator[None]:
    """Raise ``MachineError`` in place of the errors of the system, SQLite and Python for a lack.

    Other errors are not changed. The parameters are those of ``Lack.error``.
    """
    try:
        yield
    except (OSError, sqlite3.Error, MemoryError, RuntimeError) as error:
        raise_machine_error(error, doing, *folders)
        raise


def reported_error(error: Exception, given: Collection[str], *folders: Path) -> TapmlError | None:
    """Return the error to report for an exception of the system that no code has handled.

    Parameters
    ----------
    error
        Raised by a command.
    given
        The texts of the command line.
    folders
        As for ``Lack.error``.

    Returns
    -------
    TapmlError
        A ``UsageError`` where a path of the command line is wrong, otherwise a ``MachineError``.
        None for exceptions that do not come from the system.
    """
    if isinstance(error, RuntimeError) and (loop := _LOOP.fullmatch(str(error))):
        error = OSError(errno.ELOOP, os.strerror(errno.ELOOP), loop[1])
    if isinstance(error, OSError):
        files = _files(error)
        fix = _WRONG_PATHS.get(error.errno or 0)
        where = f"cannot use {' and '.join(files)}" if files else _REFUSED
        reason = error.strerror or error or type(error).__name__
        message = f"{where}: {reason}{''.join(map(_broken_link_text, files))}{fix or ''}"
        if files and fix is not None and _is_given(files[0], given):
            return UsageError(message)
    if lack := lack_of(error):
        return lack.error(_REFUSED, *folders)
    if isinstance(error, OSError):
        return MachineError(message)
    if isinstance(error, sqlite3.Error):
        return MachineError(f"cannot use a database: {error}")
    if isinstance(error, UnicodeEncodeError):
        lacking = error.object[error.start : error.end]
        kind = UsageError if any(lacking in text for text in given) else MachineError
        return kind(
            f"cannot write {error.object[:_QUOTED]!r} in {error.encoding}. Choose a name of ASCII "
            "letters, or a locale with UTF-8, such as LC_ALL=C.UTF-8"
        )
    if isinstance(error, ValueError) and str(error).startswith("embedded null"):
        wrong = next((text for text in given if "\0" in text), None)
        if wrong is not None:
            return UsageError(f"{wrong!r}: a file name cannot have a NUL character")
        return MachineError("a file name that was read has a NUL character")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        pending += [one.__context__, one.__cause__]


def _of_os_error(error: OSError, *, place: Path | None = None) -> Lack | None:
    cause = error.strerror or str(error)
    if files := _files(error):
        name = files[-1]
        if error.errno == errno.ENOENT and re.fullmatch(_PROGRAM, name):
            return Lack(cause=f"there is no {name} in PATH", fix=_COMPILER)
        place = Path(name)
        temporary = Path(tempfile.gettempdir())
        if not temporary.is_dir() and place.is_relative_to(temporary):
            return Lack(cause=f"TMPDIR is {temporary}, which is no folder", fix=_TMPDIR)
    if error.errno in _FIXES:
        return Lack(cause=cause, fix=_FIXES[error.errno], place=place)
    return None


def _files(error: OSError) -> list[str]:
    """Return the one or two paths in an error."""
    names = (error.filename, error.filename2)
    return [os.fsdecode(name) for name in names if isinstance(name, str | bytes | os.PathLike)]


def _is_given(file: str, given: Collection[str]) -> bool:
    """Whether a path is one of the command line, or a folder above one."""
    with suppress(OSError):  # the current folder was removed
        path = Path(os.path.abspath(file))  # noqa: PTH100 - without following links
        places = [Path(os.path.abspath(text)) for text in given]  # noqa: PTH100
        return any(path == place or path in place.parents for place in places)
    return False


def _broken_link_text(file: str) -> str:
    with suppress(OSError, ValueError):
        link = Path(file).readlink()
        if not Path(file).exists():
            return f". It is a symbolic link to {link}, which does not exist"
    return ""


def _of_sqlite(error: sqlite3.Error) -> Lack | None:
    # The low byte is the kind, the rest its details.
    code = getattr(error, "sqlite_errorcode", None)
    if code is None or code & 0xFF not in _SQLITE_FIXES:
        return None
    return Lack(cause=str(error), fix=_SQLITE_FIXES[code & 0xFF])


def _free_space(place: Path | None) -> str:
    if place is None:
        return ""
    at = place
    while not at.exists() and at != at.parent:
        at = at.parent
    try:
        return f" ({place}: {shutil.disk_usage(at).free / 1e6:.1f} MB free)"
    except OSError:
        return f" ({place})"


def _compilers() -> tuple[str, ...]:
    chosen = os.environ.get("CXX") or os.environ.get("CC")
    return (chosen,) if chosen else ("g++", "gcc", "clang++", "clang", "c++", "cc")


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
