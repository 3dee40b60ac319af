"""A connection to a server on another machine that can be cut at any moment."""

from __future__ import annotations

import secrets
import socket

import tvm

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.processes.child import Child
from relax_tapml.targets.server._relay_main import FAR_CLOSED
from relax_tapml.targets.server.exit_report import ExitReport, request_exit_report

_ENDING_S = 2.0


class Relay:
    """Forward one local connection to a server, and cut it on demand; a ``Server``.

    TVM's client connects and waits without a limit and does not expose its socket, so it connects
    to this relay, which can be killed. The relay is a process because destructors of remote tensors
    send messages to the server while they hold the interpreter lock: a thread of this process could
    not forward them.

    Parameters
    ----------
    host, port, key
        The server's address, and its key.
    name
        For messages.
    command
        The command that starts the server, for messages.
    timeout_s
        How long the server may take to accept the connection.

    Raises
    ------
    DeviceUnavailable
        It did not, or there is none.
    """

    folder = None
    pid = None
    hint = (
        f"Check that it is a TVM RPC server of version {tvm.__version__}, that it is free and that "
        "the key is right"
    )

    def __init__(
        self, host: str, port: int, key: str, *, name: str, command: str, timeout_s: float
    ) -> None:
        # Any program on this machine may connect to the relay; only this process has its key.
        self.key = secrets.token_hex(16)
        self.name = name
        self._far = (host, port)
        self._far_key = key
        try:
            far = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise DeviceUnavailable(
                f"no device session on {name}: cannot connect to {host}:{port}: {error}. Start "
                f"{command} there, or check the address and the firewall"
            ) from error
        far.settimeout(None)
        try:
            with far, socket.create_server(("127.0.0.1", 0)) as listener:
                self.host, self.port = listener.getsockname()
                self._child = Child(
                    "relax_tapml.targets.server._relay_main",
                    [listener, far],
                    secret=f"{self.key} {key}",
                )
        except OSError as error:
            raise DeviceUnavailable(
                f"no device session on {name}: the process that forwards to it cannot be started: "
                f"{error}"
            ) from error

    def interrupt(self) -> None:
        """Cut the connection."""
        self._child.kill()

    def exit_report(self) -> ExitReport:
        """Report whether the server closed the connection, and why if it is one of a fleet."""
        if self._child.exit_code(_ENDING_S) != FAR_CLOSED:
            return ExitReport(cause=None)
        report = request_exit_report(*self._far, self._far_key) if self._far_key else None
        return report if report and report.cause else ExitReport(cause="closed the connection")

    def close(self) -> None:
        """Cut the connection and end the relay."""
        self._child.close()
