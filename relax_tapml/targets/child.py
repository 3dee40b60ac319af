"""A helper process of ours, and how it notices that we are gone; both halves."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

_PARENT_POLL_S = 1.0
_LOG_TAIL_BYTES = 4000


class Child:
    """Run a module of this package in a new process.

    The process leads a session of its own: Ctrl-C at the terminal does not reach it, and it is
    killed together with its children. Its standard input stays open for as long as we live.

    Parameters
    ----------
    module
        Full name of a module whose ``main`` is run; it must call ``end_with_parent``.
    sockets
        Inherited by the process, which gets their file descriptors as its first arguments.
    arguments
        Its other arguments; any user can read them.
    secret
        The first line of its standard input; unlike an argument no other user can read it.
    log
        Where its output goes; None drops it.
    environment
        Set in addition to ours.
    has_torch
        Whether it can import torch, and does so with TVM.

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
        log: Path | None = None,
        environment: dict[str, str] | None = None,
        has_torch: bool = False,
    ) -> None:
        runner = [] if has_torch else ["relax_tapml.targets.without_torch"]
        fds = [end.fileno() for end in sockets]
        with (log or Path(os.devnull)).open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *runner, module, *map(str, fds), *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=fds,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        with suppress(BrokenPipeError):
            self._stdin.write(f"{secret}\n".encode())
            self._stdin.flush()

    def kill(self) -> None:
        """Kill the process and its children. Never raises; callable from any thread."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def exit_code(self, wait_s: float) -> int | None:
        """Return the exit code, negative for a signal, or None if it still runs after a wait."""
        try:
            return self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Kill the process and wait for its end. Never raises; may be called twice."""
        self.kill()
        self._process.wait()
        with suppress(OSError):
            self._stdin.close()


def ending_text(code: int | None) -> str | None:
    """Return how a process with an exit code ended, in words; None if it still runs."""
    if code is None:
        return None
    if code >= 0:
        return f"exited with code {code}"
    names = {member.value: member.name for member in signal.Signals}
    return f"died of {names.get(-code, f'signal {-code}')}"


def log_tail(log: Path) -> str:
    """Return the end of what a child printed, empty if it printed nothing."""
    content = log.read_bytes()[-_LOG_TAIL_BYTES:] if log.exists() else b""
    return content.decode(errors="replace").strip()


def end_with_parent(clean_up: Callable[[], None] = lambda: None) -> str:
    """Return our parent's ``secret``, and from now on end when it is gone.

    Called first thing in a ``Child``. A thread waits for the end of standard input, which works
    while the main thread is in a kernel that never returns, and looks at the parent's process id,
    because a process forked from the parent keeps our standard input open. PR_SET_PDEATHSIG is not
    used: it fires when the parent's thread ends.
    """
    parent = os.getppid()
    secret = b""
    while not secret.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("the parent was gone before it said what to do")
        secret += byte

    def watch() -> None:
        while os.getppid() == parent:
            if select.select([0], [], [], _PARENT_POLL_S)[0] and not os.read(0, 1):
                break
        clean_up()
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return secret.decode().strip()
