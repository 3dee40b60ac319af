"""Take from a Python process what Linux has and macOS lacks, as far as this package could use it.

``take_away`` is called before the package is imported; ``sitecustomize`` calls it in the processes
that tests start if ``RELAX_TAPML_TEST_WITHOUT_LINUX`` is set. What remains is Linux all the same:
how macOS loads libraries, and how Metal runs, cannot be tried in this way.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import select
import signal
import socket
import sys
import sysconfig
from contextlib import suppress
from typing import Any

VARIABLE = "RELAX_TAPML_TEST_WITHOUT_LINUX"

_LACKING: dict[Any, str] = {
    os: "posix_fallocate posix_fadvise fdatasync pipe2 copy_file_range splice memfd_create "
    "eventfd eventfd_read eventfd_write pidfd_open sched_getaffinity sched_setaffinity "
    "sched_getparam sched_setparam sched_getscheduler sched_setscheduler getrandom unshare setns "
    "getxattr setxattr listxattr removexattr waitid getresuid getresgid setresuid setresgid "
    "O_TMPFILE O_PATH O_DIRECT O_LARGEFILE O_NOATIME O_RSYNC POSIX_SPAWN_CLOSEFROM",
    select: "epoll POLLRDHUP",
    socket: "TCP_KEEPIDLE TCP_USER_TIMEOUT TCP_QUICKACK TCP_DEFER_ACCEPT TCP_CORK SO_PEERCRED "
    "SO_DOMAIN SO_PROTOCOL SO_INCOMING_CPU SOCK_CLOEXEC SOCK_NONBLOCK MSG_NOSIGNAL",
    signal: "SIGRTMIN SIGRTMAX SIGPOLL SIGPWR SIGSTKFLT sigwaitinfo sigtimedwait pidfd_send_signal",
    mmap: "MAP_POPULATE MAP_STACK MADV_HUGEPAGE MADV_DONTFORK MADV_REMOVE MADV_MERGEABLE",
    resource: "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_SIGPENDING",
}
_LACKING_IN_C = frozenset(
    ("renameat2", "prctl", "memfd_create", "fallocate", "posix_fallocate", "copy_file_range",
     "pidfd_open", "eventfd", "sched_getaffinity", "gettid", "mremap", "epoll_create1")
)  # fmt: skip
_FOLDERS = ("/proc", "/sys", "/dev/shm", "/dev/dri")
# Python's own modules, which open files and fork for others.
_PYTHON = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))


def take_away() -> None:
    """Take it away from this process, for as long as it lasts."""
    # On macOS one event tells both, that one end is closed and that both are.
    select.POLLHUP |= getattr(select, "POLLRDHUP", 0)
    for module, names in _LACKING.items():
        for name in names.split():
            with suppress(AttributeError):
                delattr(module, name)
    _hide_from_ctypes()
    sys.addaudithook(_refuse)
    with suppress(ImportError):
        from relax_tapml import system

        system.IS_MACOS, system.FORKS_ARE_SAFE = True, False
    with suppress(ImportError):
        _hide_threads()


def _hide_from_ctypes() -> None:
    found = ctypes.CDLL.__getattr__

    def lookup(library: ctypes.CDLL, name: str) -> Any:
        if name == "renamex_np":  # the same under another name
            rename = found(library, "renameat2")
            return lambda one, other, flags: rename(-100, one, -100, other, flags)
        if name in _LACKING_IN_C:
            raise AttributeError(f"{name}: symbol not found")
        return found(library, name)

    ctypes.CDLL.__getattr__ = lookup  # type: ignore[method-assign]


def _hide_threads() -> None:
    """Those of other processes, which macOS tells to root only."""
    import psutil

    threads = psutil.Process.threads

    def own(process: psutil.Process) -> Any:
        if process.pid != os.getpid():
            raise psutil.AccessDenied(process.pid)
        return threads(process)

    psutil.Process.threads = own


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """Refuse what this package itself must not do: fork, and open Linux's files about processes."""
    if event == "os.fork" and _is_ours():
        raise RuntimeError("a fork, which is not safe on macOS")
    if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        path = os.fsdecode(args[0])
        if path.startswith(_FOLDERS) and _is_ours():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _is_ours() -> bool:
    """Whether the nearest caller outside of Python's own modules is of this package."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        is_python = name.startswith("<") or (name.startswith(_PYTHON) and "-packages" not in name)
        if not is_python:
            return frame.f_globals.get("__name__", "").split(".")[0] == "relax_tapml" or (
                os.sep + "relax_tapml" + os.sep in name
            )
        frame = frame.f_back
    return False
