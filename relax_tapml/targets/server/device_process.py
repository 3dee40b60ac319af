"""A server process on this machine, so that a kernel may crash or hang."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.processes.child import Child, ending_text, is_kill
from relax_tapml.targets.server.exit_report import ExitReport

_ENDING_S = 5.0


class DeviceProcess:
    """Start a process that serves one client and end it again; a ``Server``.

    Its output and that of kernels goes to a log in ``folder``, where it also keeps its files.

    Parameters
    ----------
    module
        What the process runs, as a ``Child``: its arguments are a listening socket and
        ``arguments``, its secret is the key.
    arguments
        Further arguments of the process.
    has_torch, environment
        As for a ``Child``.

    Raises
    ------
    DeviceUnavailable
        The process cannot be started.
    """

    hint = "Check that this machine has memory and processes left"

    def __init__(
        self,
        module: str = "relax_tapml.targets.server._device_process_main",
        arguments: Sequence[str] = (),
        *,
        has_torch: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.key = secrets.token_hex(16)
        try:
            # The process inherits the listening socket: the port is known before it has started,
            # and if it ends first, a connection that waits for it is reset.
            with socket.create_server((self.host, 0)) as listener:
                self.port = listener.getsockname()[1]
                folder = ScratchFolder()
                self.folder = folder.path
                self._child = Child(
                    module,
                    [listener],
                    arguments,
                    secret=self.key,
                    folder=folder,
                    environment=environment,
                    has_torch=has_torch,
                )
        except OSError as error:
            raise DeviceUnavailable(f"the device process cannot be started: {error}") from error
        self.pid = self._child.pid
        self.name = f"device process {self.pid}"

    def interrupt(self) -> None:
        """Kill the process and its children."""
        self._child.kill()

    def exit_report(self) -> ExitReport:
        """Report how the process ended and what it printed last."""
        code = self._child.exit_code(_ENDING_S)
        return ExitReport(
            cause=ending_text(code), log=self._child.log_tail(), is_killed=is_kill(code)
        )

    def close(self) -> None:
        """Kill the process, wait for its end and remove its folder."""
        self._child.close()
