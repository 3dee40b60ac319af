"""The interface of a platform: how kernels are compiled, where they run, what that needs."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import tvm

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.system import FORKS_ARE_SAFE
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.server.exit_report import ExitReport
from relax_tapml.targets.server.forward import forward
from relax_tapml.targets.server.handshake import authenticate
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
"""How long a device may take to start, even if calls have a shorter limit.

For a process of this machine processor time counts; see ``Deadline``.
"""


class Platform(ABC):
    """Everything that depends on the platform; each subclass is one platform, in one file.

    The defaults fit a platform that this machine can compile shared objects for and run in a
    process. What a device refuses at run time raises a ``DeviceFault``; see ``DeviceSession``.
    """

    name: ClassVar[str]
    """The value for ``--target``."""

    summary: ClassVar[str]
    """A description, in a line."""

    tried_on: ClassVar[str]
    """The hardware that this package was run on, as text; ``no hardware`` if there is none."""

    elsewhere: ClassVar[str] = "run them over RPC"
    """What to do with kernels where there is no such device, a clause."""

    suffix: ClassVar[str] = ".so"
    """The suffix of the file of a compiled kernel."""

    remote_sessions: ClassVar[tuple[str, ...]] = (RPC, TRACKER)
    """Which of ``RPC`` and ``TRACKER`` can be used for such devices."""

    copy_alignment: ClassVar[int] = 1
    """The alignment, in bytes, of a copy within a buffer."""

    needs_own_runtime: ClassVar[bool] = False
    """Whether code runs in a process here only with a runtime of this package beside TVM's."""

    @abstractmethod
    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's."""

    def lacks_waiting(self, target: Any) -> bool:
        """Return whether functions of TVM's runtime cannot wait for the device of a target."""
        del target
        return False

    def target_json(self, text: str) -> str | None:
        """Return the JSON of a target by this platform's name; None for other names."""
        del text
        return None

    def complete(self, target: Any) -> Any:
        """Return a target with the attributes that compiling for the platform needs."""
        return target

    def trusted(self, target: Any) -> Any:
        """Return the target for kernels of the source.

        No compile option costs accuracy, and what TVM is known to lower wrongly is right. Kernels
        of this target and of the given one are cached apart. Applied twice, it changes nothing
        more. The target itself where the platform has nothing of the kind.
        """
        return target

    def options_text(self, target: Any) -> str:
        """What compile options of a target differ from TVM's, for people; empty if none does."""
        del target
        return ""

    def here(self, target: Any) -> Any:
        """Return a target for code that is compiled and run on this machine."""
        return target

    def portable(self, target: Any) -> Any:
        """Return the target that ``here`` made this one of, for any machine."""
        return target

    def host(self, target: Any) -> Any:
        """Return the target of functions that run beside the VM, on the device's CPU."""
        return target.host or (target if "cpu" in target.keys else tvm.target.Target("llvm"))

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; yields facts that become part of a kernel's cache key."""
        del target
        return nullcontext({})

    def low_precision_math(self, target: Any) -> LowPrecisionMath | None:
        """Return which functions are computed less accurately under the options in use, and why.

        A unit that passes only with the wider bounds is reported as one of low precision. None if
        there is no such function.
        """
        del target
        return None

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc to a file that the device loads.

        Raises any exception if it does not build.
        """
        tvm.tirx.build(schedule(module, target), target=target).export_library(str(path))

    def compiles_in_fork(self, target: Any) -> bool:
        """Whether ``compile`` may be called in a fork of this process.

        It may where it only generates code and starts programs, and ``FORKS_ARE_SAFE``; a compiler
        that queries a GPU's driver cannot run in one.
        """
        del target
        return FORKS_ARE_SAFE

    def sessions(self) -> Mapping[str, Opener]:
        """Return how to open a device on this machine, by ``--session``; ``process`` is one."""
        return {"inline": lambda target, _: InlineSession(target), "process": self._process}

    def connect(
        self, server: Server, target: Any, *, timeout_s: float, start_s: float | None = None
    ) -> DeviceSession:
        """Return a session on a server. Raises ``DeviceUnavailable``."""
        return RPCSession(server, target, timeout_s=timeout_s, start_s=start_s)

    def server_command(self, options: str) -> str:
        """Return the command that starts a server on the device's machine, for messages.

        Parameters
        ----------
        options
            ``--port PORT``, or ``--tracker HOST:PORT --key KEY``.
        """
        return f"'python -m tvm.exec.rpc_server {options}'"

    def requirements(self) -> list[Requirement]:
        """Return what it needs on this machine beside Python packages, found or missing."""
        return []

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        return True

    def devices_here(self) -> list[str]:
        """Return descriptions of this machine's devices, for people; empty if none has one."""
        return []

    def prepare_client(self) -> None:
        """Build what this machine needs for its half of a session; may take minutes, once.

        Raises ``DeviceUnavailable`` if that fails.
        """
        return

    def check(self) -> None:
        """Raise ``DeviceUnavailable`` if a requirement is missing that everything needs."""
        self._demand([item for item in self.requirements() if item.is_needed])

    def start(self) -> Server:
        """Start a server on this machine. Raises ``DeviceUnavailable``."""
        return DeviceProcess()

    def serve(self, connection: socket.socket, folder: Path) -> ExitReport:
        """Start a server for a client of a fleet, and forward between the two.

        The caller is a fork, in which drivers of GPUs do not work; the server is a new process.

        Parameters
        ----------
        connection
            To the client, after the handshake.
        folder
            For the session's files.

        Returns
        -------
        ExitReport
            How the server ended; without a cause if the client left.
        """
        del folder
        try:
            server = self.start()
        except DeviceUnavailable as error:
            return ExitReport(cause=str(error))
        with closing(server):
            try:
                with socket.create_connection((server.host, server.port)) as far:
                    is_lost = not authenticate(far, "client", server.key) or forward(
                        connection, far
                    )
            except OSError:
                is_lost = True
            if not is_lost:
                return ExitReport(cause=None)
            exit_report = server.exit_report()
            return replace(exit_report, cause=exit_report.cause or "closed the connection")

    def _demand(self, items: Sequence[Requirement]) -> None:
        missing = [item for item in items if not item.found]
        if missing:
            text = "; ".join(f"{item.name} is missing ({item.install})" for item in missing)
            raise DeviceUnavailable(f"target {self.name}: {text}. See 'relax-tapml doctor'")

    def _process(self, target: Any, timeout_s: float) -> DeviceSession:
        start_s = max(timeout_s, START_S)
        return open_with_retries(
            lambda: self.connect(self.start(), target, timeout_s=timeout_s, start_s=start_s)
        )
