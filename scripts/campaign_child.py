"""Work done in a fork that is watched: how it ended, and what it touched that it may not touch.

``fuzz_artefacts.py`` and ``chaos.py`` run the tool in forks of a process that has imported TVM, so
that a try costs milliseconds. A fork has limits of its own and a place of its own, in which
everything but two folders is a trap.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import resource
import select
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# What a fork ends with where the work raised something, which no command ends with.
RAISED = 99
_PR_SET_CHILD_SUBREAPER = 36
_CACHE = "XDG_CACHE_HOME"
_SHOWN_BYTES = 256 << 20
# Processes that the work leaves behind may take this long to see that it has ended.
_LEAVE_S = 5.0
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Audit events that change the file system: for each path that they change, its position among the
# arguments, and that of the descriptor of the folder that it is relative to.
_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a fork may use.

    Parameters
    ----------
    seconds
        Of time; then it hangs, and is killed.
    memory
        Bytes of memory beyond what it has at its beginning; what asks for more gets an error.
    peak
        Bytes that it, or a process that it starts, may really fill.
    """

    seconds: float = 60.0
    memory: int = 6 << 30
    peak: int = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a fork ended.

    Parameters
    ----------
    exit_code, killed_by
        One of them is None; ``exit_code`` is ``RAISED`` if the work raised something.
    is_hung
        Whether it was killed because its time was over.
    seconds
        How long it took.
    grown
        By how many bytes the largest of its processes grew.
    out, err
        What it printed.
    outside
        Files and folders it changed that it may not change, or tried to.
    planted
        Marks that planted code left.
    processes
        Processes that did not end with it.
    files
        What it left in its folder for temporary files.
    """

    exit_code: int | None
    killed_by: int | None
    is_hung: bool
    seconds: float
    grown: int
    out: str
    err: str
    outside: tuple[str, ...]
    planted: tuple[str, ...]
    processes: tuple[str, ...]
    files: tuple[str, ...]


class Place:
    """A folder to try something in. Only ``case`` and ``temporary`` may be written to.

    Attributes
    ----------
    case
        Holds what is tried, and what comes out of it.
    temporary
        ``TMPDIR`` of the fork.
    marks
        Where planted code leaves a mark.
    canary
        A folder with a file, which nobody may change.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.case = self.root / "case"
        self.temporary = self.root / "temporary"
        self.marks = self.root / "marks"
        self.canary = self.root / "canary"
        self._here = self.root / "here"
        for folder in (self.case, self.temporary, self.marks, self.canary, self._here):
            folder.mkdir(parents=True)
        (self.canary / "file").write_text("canary")
        self._traps = self._seen()

    def clean(self) -> None:
        """Make ready for the next try: an empty ``case``, and traps as they were."""
        for folder in (self.case, self.temporary, self.marks, self._here):
            _make_empty(folder)
        if self._seen() != self._traps:
            _make_empty(self.canary)
            (self.canary / "file").write_text("canary")
            known = {"case", "temporary", "marks", "canary", "here", "library.so"}
            for path in self.root.iterdir():
                if path.name not in known:
                    _delete(path)
        self._traps = self._seen()

    def run(self, work: Callable[[], int], limits: Limits) -> Ended:
        """Do work in a fork; see ``Ended``."""
        return self.start(work, limits).wait()

    def start(self, work: Callable[[], int], limits: Limits, name: str = "") -> Running:
        """Begin work in a fork. One that begins beside it has a name, and is waited for first."""
        adopt_orphans(is_on=True)
        known = frozenset(_children())
        streams = [self.root / f".{name}{stream}" for stream in ("out", "err", "audit")]
        descriptors = [os.open(p, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for p in streams]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if pid == 0:
            _in_fork(work, self, limits, descriptors)
        return Running(self, pid, limits, descriptors, known)

    def build_library(self, text: str) -> None:
        """Build ``library.so`` from C text, if it is not there: part of the traps."""
        from tvm.support import cc

        source, library = self.root / ".library.c", self.root / "library.so"
        if not library.exists():
            source.write_text(text)
            cc.create_shared(str(library), [str(source)])
            self._traps = self._seen()

    def changed(self) -> list[str]:
        """Return what was changed since ``clean`` although nobody may."""
        seen, traps = self._seen(), self._traps
        return sorted(name for name in seen.keys() | traps if seen.get(name) != traps.get(name))

    def _seen(self) -> dict[str, tuple[int, int, int]]:
        """Return everything that may not change: kind, size and time of change by name."""
        found = {}
        for top in self.root.iterdir():
            if top.name in ("case", "temporary", "marks") or top.name.startswith("."):
                continue
            for path in (top, *(top.rglob("*") if top.is_dir() else ())):
                status = path.lstat()
                size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
                found[str(path.relative_to(self.root))] = (status.st_mode, size, status.st_mtime_ns)
        return found


class Running:
    """Work under way in a fork; ``wait`` must be called."""

    def __init__(
        self,
        place: Place,
        pid: int,
        limits: Limits,
        descriptors: Sequence[int],
        known: frozenset[int],
    ) -> None:
        self.pid = pid
        self._place = place
        self._limits = limits
        self._descriptors = descriptors
        self._known = known
        self._began = time.monotonic()
        self._handle = os.pidfd_open(pid)

    def err(self) -> str:
        """Return what it has printed on standard error so far."""
        return _text(self._descriptors[1])

    def is_over(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or does so in that time."""
        return bool(select.select([self._handle], [], [], seconds)[0])

    def send(self, number: int, *, to_group: bool = False) -> None:
        """Send a signal to it, or to all processes that a terminal would send it to."""
        with suppress(ProcessLookupError):
            (os.killpg if to_group else os.kill)(self.pid, number)

    def wait(self) -> Ended:
        """Wait until it has ended, or kill it when its time is over."""
        left = self._limits.seconds - (time.monotonic() - self._began)
        is_hung = not self.is_over(max(0.0, left))
        os.close(self._handle)
        if is_hung:
            _kill_group(self.pid)
        _, status, usage = os.wait4(self.pid, 0)
        seconds = time.monotonic() - self._began
        code = os.waitstatus_to_exitcode(status)
        processes = _ended_orphans(set(self._known))
        out, err, audit = map(_text, self._descriptors)
        for descriptor in self._descriptors:
            os.close(descriptor)
        place = self._place
        return Ended(
            exit_code=code if code >= 0 else None,
            killed_by=-code if code < 0 else None,
            is_hung=is_hung,
            seconds=seconds,
            grown=max(0, usage.ru_maxrss * 1024 - _resident()),
            out=out,
            err=err,
            outside=tuple(dict.fromkeys((*place.changed(), *audit.splitlines()))),
            planted=tuple(sorted(path.name for path in place.marks.iterdir())),
            processes=processes,
            files=tuple(sorted(path.name for path in place.temporary.iterdir())),
        )


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Make a folder and delete it at the end; unlike ``tempfile``'s, forks never delete it.

    What the tool keeps for a user is kept in it meanwhile: there is a secret among it, which tells
    kernels that it built itself.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    before = os.environ.get(_CACHE)
    os.environ[_CACHE] = str(folder / "cache")
    try:
        yield folder
    finally:
        os.environ.pop(_CACHE)
        if before is not None:
            os.environ[_CACHE] = before
        shutil.rmtree(folder, ignore_errors=True)


def _in_fork(
    work: Callable[[], int], place: Place, limits: Limits, descriptors: Sequence[int]
) -> NoReturn:
    try:
        os.setsid()
        _forget_exits()
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 0)
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[1], 2)
        # As an interpreter opens them; ours may have been replaced, or have been closed.
        sys.stdout = open(1, "w", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        os.environ["TMPDIR"] = str(place.temporary)
        # PyTorch makes a folder of that name whenever it is imported, and keeps it.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(place.case / ".torchinductor")
        tempfile.tempdir = None
        os.chdir(place._here)
        sys.dont_write_bytecode = True
        most = _address_space() + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        allowed = [place.case, place.temporary, Path("/dev"), Path("/proc/self")]
        allowed += [Path(os.environ[_CACHE])] if _CACHE in os.environ else []
        _watch(allowed, descriptors[2])
        code = RAISED
        try:
            code = int(work() or 0)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 2
        except BaseException:
            traceback.print_exc()
        # As an interpreter ends: threads first, then what is registered.
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(RAISED)


def _forget_exits() -> None:
    """What our parent does when it exits is not done when its fork does."""
    atexit._clear()
    for left in tuple(weakref.finalize._registry):
        left.atexit = False
    weakref.finalize._registered_with_atexit = False  # the next one registers it again


def _watch(allowed: Sequence[Path], report: int) -> None:
    """Report every change of the file system outside of folders, in this process and its forks."""
    roots = [os.path.realpath(path) for path in allowed]

    def report_change(event: str, path: Any, folder: Any = -1) -> None:
        if isinstance(path, int):
            return
        name = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0 and not name.startswith("/"):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)  # noqa: PTH115, PTH118
        parent, last = os.path.split(os.path.abspath(name))  # noqa: PTH100
        # A last part that is a link is changed itself, but opened through.
        whole = name if event == "open" else os.path.join(os.path.realpath(parent), last)  # noqa: PTH118
        real = os.path.realpath(whole) if event == "open" else whole
        if not any(real == root or real.startswith(root + "/") for root in roots):
            os.write(report, f"{event} {real}\n".encode(errors="backslashreplace"))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            is_text = isinstance(mode, str)
            is_writing = set("wax+") & set(mode) if is_text else (flags or 0) & _WRITING
            if path is not None and is_writing:
                report_change(event, path)
        elif event in _CHANGES:
            for position, at in _CHANGES[event]:
                report_change(
                    event, args[position], args[at] if at is not None and at < len(args) else -1
                )

    sys.addaudithook(hook)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def adopt_orphans(*, is_on: bool) -> None:
    """Become the parent of every process below whose own parent ends, or cease to."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(is_on), 0, 0, 0)


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def _ended_orphans(known: set[int]) -> tuple[str, ...]:
    """Return the command lines of processes that do not end by themselves; they are killed."""
    until = time.monotonic() + _LEAVE_S
    left: list[str] = []
    while orphans := set(_children()) - known:
        is_late = time.monotonic() > until
        for pid in orphans:
            if is_late:
                left.append(_command_line(pid))
                _kill_group(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0 if is_late else os.WNOHANG)
        if not is_late:
            time.sleep(0.01)
    return tuple(left)


def _command_line(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return str(pid)
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:200]


def _text(descriptor: int) -> str:
    return os.pread(descriptor, _SHOWN_BYTES, 0).decode(errors="surrogateescape")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _resident() -> int:
    """Return the memory that a fork of this process begins with: what it shares with no file."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * resource.getpagesize()


def _make_empty(folder: Path) -> None:
    _delete(folder)
    folder.mkdir(parents=True)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
