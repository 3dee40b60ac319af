"""Helper processes that end when this process ends; the parent's half and the child's."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from relax_tapml.files.scratch import ScratchFolder

_PARENT_POLL_S = 1.0
_LOG_TAIL_BYTES = 4000
_REMOVAL_S = 2.0
# The parent's secret, if this process is a ``Child``.
_secret: str | None = None
EXITED = "exited with code"
KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class Child:
    """Run a module of this package in a new process.

    The process leads a session of its own: Ctrl-C at the terminal does not reach it, and it is
    killed together with its children. Its standard input stays open until this process ends. It
    has this process's import path, without the current folder in front: that may hold any files.

    Parameters
    ----------
    module
        Full name of a module whose ``main`` is run; it must call ``end_with_parent``.
    sockets
        Inherited by the process, which gets their file descriptors as its first arguments.
    arguments
        Its other arguments; any user can read them.
    secret
        A line of its standard input; unlike an argument no other user can read it.
    folder
        A folder of its own: its TMPDIR, with its output in ``log``. It is removed in ``close``, if
        the process cannot be started, and by the process when its parent is gone. Without one its
        output is dropped.
    environment
        Added to the environment of this process.
    has_torch
        Whether it can import torch; TVM imports torch where it can.
    command
        What to run instead of ``module`` with this Python; it does not get this process's import
        path. The file descriptors and ``arguments`` follow it.

    Raises
    ------
    OSError
        The process cannot be started.
    """

    def __init__(
        self,
        module: str,
        sockets: Sequence[socket.socket],
        arguments: Sequence[str] = (),
        *,
        secret: str = "",
        folder: ScratchFolder | None = None,
        environment: dict[str, str] | None = None,
        has_torch: bool = False,
        command: Sequence[str] | None = None,
    ) -> None:
        runner = [] if has_torch else ["relax_tapml.processes._without_torch"]
        imports = _imports() if command is None else {}
        command = command or [sys.executable, "-P", "-m", *runner, module]
        fds = [end.fileno() for end in sockets]
        self._folder = folder
        self._log = folder.path / "log" if folder else Path(os.devnull)
        temporary = {"TMPDIR": str(folder.path)} if folder else {}
        try:
            with self._log.open("wb") as output:
                self._process = subprocess.Popen(
                    [*command, *map(str, fds), *arguments],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=fds,
                    env={**os.environ, **imports, **temporary, **(environment or {})},
                    start_new_session=True,
                )
        except BaseException:
            self._remove_folder()
            raise
        self.pid = self._process.pid
        self._is_over = False
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        with suppress(BrokenPipeError):
            self._stdin.write(f"{folder.path if folder else ''}\n{secret}\n".encode())
            self._stdin.flush()

    def kill(self) -> None:
        """Kill the process and its children. Never raises; callable from any thread."""
        if not self._is_over:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def exit_code(self, wait_s: float | None) -> int | None:
        """Return the exit code, negative for a signal, or None if it still runs after a wait.

        Children that it has left behind are killed.
        """
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return None
        # At once, and never again: the system may give the number to another process.
        self.kill()
        self._is_over = True
        return code

    def log_tail(self) -> str:
        """Return the end of what the process printed, until ``close`` and if it has a folder."""
        return log_tail(self._log)

    def close(self) -> None:
        """Kill the process and remove its folder. Never raises; may be called twice."""
        self.kill()
        self.exit_code(None)
        with suppress(OSError):
            self._stdin.close()
        self._remove_folder()

    def _remove_folder(self) -> None:
        # Children that are dying may still write to it.
        end = time.monotonic() + _REMOVAL_S
        while self._folder and self._folder.path.exists() and time.monotonic() < end:
            self._folder.close()


def import_path() -> str:
    """Return the PYTHONPATH that gives a new interpreter the import path of this one."""
    return os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)


def _imports() -> dict[str, str]:
    return {"PYTHONPATH": import_path()}


def ending_text(code: int | None) -> str | None:
    """Return how a process with an exit code ended, for a message; None if it still runs."""
    if code is None:
        return None
    if code >= 0:
        return f"{EXITED} {code}"
    names = {member.value: member.name for member in signal.Signals}
    return f"was terminated by {names.get(-code, f'signal {-code}')}"


def is_kill(code: int | None) -> bool:
    """Whether a process with an exit code was killed by another process or by the system.

    No kernel ends its process with such a signal. The system does where memory is short.
    """
    return code is not None and -code in KILLS


def log_tail(log: Path) -> str:
    """Return the end of what a process printed, empty if it printed nothing."""
    content = log.read_bytes()[-_LOG_TAIL_BYTES:] if log.exists() else b""
    return content.decode(errors="replace").strip()


def end_with_parent() -> str:
    """Return the ``secret`` of the parent, and from now on end this process when the parent ends.

    The folder of the ``Child``, if any, is removed then. TMPDIR cannot be used for that: without
    such a folder it is one that all users share.

    Called first in a ``Child``, and again where the secret is needed. A thread waits for the end of
    standard input, which works while the main thread is in a kernel that never returns. It also
    looks at the parent's process id, because a process forked from the parent keeps the pipe of
    standard input open. PR_SET_PDEATHSIG is not used: it fires when the parent's thread ends.
    """
    global _secret
    if _secret is not None:
        return _secret
    parent = os.getppid()
    folder, _secret = _line(), _line()

    def watch() -> None:
        while os.getppid() == parent:
            if select.select([0], [], [], _PARENT_POLL_S)[0] and not os.read(0, 1):
                break
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return _secret


def _line() -> str:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)  # no more than the line: the end of input is for ``watch``
        if not byte:
            sys.exit("the parent process ended before it sent its request")
        line += byte
    return line.decode().removesuffix("\n")
