"""How a server ended, and asking the server of a fleet how its last session did."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass

from tvm.rpc import base

from relax_tapml.processes.child import EXITED
from relax_tapml.targets.server.handshake import present

_ANSWER_S = 5.0
ROLE = "exit_report"
"""What asks, where a client of RPC is ``client``."""


@dataclass(frozen=True, kw_only=True)
class ExitReport:
    """How a server, or its session, ended.

    Parameters
    ----------
    cause
        For messages, such as ``died of SIGSEGV``; None where it has not ended by itself.
    log
        The end of its log, empty where there is none.
    is_killed
        Whether another process, or the system, ended it.
    """

    cause: str | None
    log: str = ""
    is_killed: bool = False

    @property
    def has_exited(self) -> bool:
        """Whether it ended itself, which it would do again."""
        return (self.cause or "").startswith(EXITED)


def request_exit_report(host: str, port: int, key: str) -> ExitReport | None:
    """Return how the session with ``key`` ended; None if the server is not one of ours, or busy."""
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_S) as connection:
            if not present(connection, ROLE, key):
                return None
            return ExitReport(**base.recvjson(connection))
    except (OSError, TypeError, ValueError, json.JSONDecodeError):
        return None
