"""A kind of device: how its kernels are made, where they run, and what that needs."""

from __future__ import annotations

import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import tvm

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.server.exit_report import ExitReport
from relax_tapml.targets.server.forward import forward
from relax_tapml.targets.server.handshake import present
from relax_tapml.targets.session.attempts import open_with_retries
from relax_tapml.targets.session.inline import InlineSession
from relax_tapml.targets.session.rpc_session import RPCSession, Server
from relax_tapml.targets.session.session import DeviceSession
from relax_tapml.targets.toolchain.default_schedule import schedule
from relax_tapml.targets.toolchain.low_precision_math import LowPrecisionMath
from relax_tapml.targets.toolchain.requirement import Requirement

RPC = "rpc:HOST:PORT"
TRACKER = "tracker:HOST:PORT:KEY"

# Opens a session on a device of ``target`` here: (target, seconds that one call may take).
Opener = Callable[[Any, float], DeviceSession]

START_S = 60.0
"""How long a device may take to start, although a call may have to be quick.

Of a process here what counts is the time that it has had of the machine; see ``Deadline``.
"""


class Platform(ABC):
    """What the rest of the package knows of a platform; a subclass is one of them, in one file.

    The defaults are those of a platform that this machine can compile shared objects for and run
    in a process. What a device refuses at run time reaches its user as a ``DeviceFault``, whoever
    opened the session; see ``DeviceSession``.
    """

    name: ClassVar[str]
    """As ``--target`` takes it."""

    summary: ClassVar[str]
    """What it is, in a line."""

    tried_on: ClassVar[str]
    """The hardware that this package has been run on, for people; it says so if there is none."""

    suffix: ClassVar[str] = ".so"
    """Of the file that a compiled kernel is."""

    remote_sessions: ClassVar[tuple[str, ...]] = (RPC, TRACKER)
    """Which of the sessions ``rpc:HOST:PORT`` and ``tracker:HOST:PORT:KEY`` reach such devices."""

    copy_alignment: ClassVar[int] = 1
    """Bytes that the place of a copy within a buffer must be a multiple of."""

    @abstractmethod
    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's."""

    def target_json(self, text: str) -> str | None:
        """Return the JSON of a target that only we know by this name; None if it is not ours."""
        del text
        return None

    def complete(self, target: Any) -> Any:
        """Return a target with what compiling for the platform needs besides."""
        return target

    def host(self, target: Any) -> Any:
        """Return the target of functions that run beside the VM, on the device's own CPU."""
        return target.host or (target if "cpu" in target.keys else tvm.target.Target("llvm"))

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; what is yielded is part of a kernel's name in a cache."""
        del target
        return nullcontext({})

    def low_precision_math(self, target: Any) -> LowPrecisionMath | None:
        """Return which functions are computed less accurately under the options in use, and why.

        A unit that only coarse bounds let pass is reported as one of low precision. None if there
        is no such function.
        """
        del target
        return None

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc, and write it as the device loads it.

        Raises whatever says why it does not build.
        """
        tvm.tirx.build(schedule(module, target), target=target).export_library(str(path))

    def compiles_in_fork(self, target: Any) -> bool:
        """Whether ``compile`` may be called in a fork of this process.

        It may where only code is generated and programs are server. On macOS system libraries may
        not be used in a fork, and a compiler that asks a GPU's driver needs a process of its own.
        """
        del target
        return sys.platform == "linux"

    def sessions(self) -> Mapping[str, Opener]:
        """Return how to open a device here, by the name of ``--session``; ``process`` is one."""
        return {"inline": lambda target, _: InlineSession(target), "process": self._process}

    def connect(
        self, server: Server, target: Any, *, timeout_s: float, start_s: float | None = None
    ) -> DeviceSession:
        """Return a session on a server. Raises ``DeviceUnavailable``."""
        return RPCSession(server, target, timeout_s=timeout_s, start_s=start_s)

    def server_command(self, options: str) -> str:
        """Return what starts a server on the device's own machine, for people.

        Parameters
        ----------
        options
            ``--port PORT``, or ``--tracker HOST:PORT --key KEY``.
        """
        return f"'python -m tvm.exec.rpc_server {options}'"

    def requirements(self) -> list[Requirement]:
        """Return what it needs here beside Python packages, found or missing."""
        return []

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        return True

    def prepare_client(self) -> None:
        """Make what this machine needs before a device is waited for; may take minutes, once.

        Raises ``DeviceUnavailable`` if that fails.
        """
        return

    def check(self) -> None:
        """Raise ``DeviceUnavailable`` if something is missing that nothing works without."""
        self._demand([item for item in self.requirements() if item.is_needed])

    def start(self) -> Server:
        """Start a server on this machine that ends with us. Raises ``DeviceUnavailable``."""
        return DeviceProcess()

    def serve(self, connection: socket.socket, folder: Path) -> ExitReport:
        """Start a server for a client of a fleet, and forward what they say to each other.

        The caller is a fork, in which drivers of GPUs do not work; the server is not.

        Parameters
        ----------
        connection
            To the client, which has been greeted.
        folder
            For files of the session.

        Returns
        -------
        ExitReport
            Why it ended; without a cause if the client left.
        """
        del folder
        try:
            server = self.start()
        except DeviceUnavailable as error:
            return ExitReport(cause=str(error))
        with closing(server):
            try:
                with socket.create_connection((server.host, server.port)) as far:
                    is_lost = not present(far, "client", server.key) or forward(connection, far)
            except OSError:
                is_lost = True
            if not is_lost:
                return ExitReport(cause=None)
            exit_report = server.exit_report()
            return replace(exit_report, cause=exit_report.cause or "closed the connection")

    def _demand(self, items: Sequence[Requirement]) -> None:
        missing = [item for item in items if not item.found]
        if missing:
            told = "; ".join(f"{item.name} is missing ({item.install})" for item in missing)
            raise DeviceUnavailable(f"target {self.name}: {told}. See 'relax-tapml doctor'")

    def _process(self, target: Any, timeout_s: float) -> DeviceSession:
        start_s = max(timeout_s, START_S)
        return open_with_retries(
            lambda: self.connect(self.start(), target, timeout_s=timeout_s, start_s=start_s)
        )
