"""How a server ended, and the request for that to a server of a fleet."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass

from tvm.rpc import base

from relax_tapml.processes.child import EXITED
from relax_tapml.targets.server.handshake import authenticate

_ANSWER_S = 5.0
ROLE = "exit_report"
"""The role of who requests a report; the role of an RPC client is ``client``."""


@dataclass(frozen=True, kw_only=True)
class ExitReport:
    """How a server, or its session, ended.

    Parameters
    ----------
    cause
        For messages, such as ``was terminated by SIGSEGV``; None if it was ended by its client.
    log
        The end of its log, empty where there is none.
    is_killed
        Whether it was killed from outside: by another process or by the system.
    """

    cause: str | None
    log: str = ""
    is_killed: bool = False

    @property
    def has_exited(self) -> bool:
        """Whether it exited by itself, which it would do again."""
        return (self.cause or "").startswith(EXITED)


def request_exit_report(host: str, port: int, key: str) -> ExitReport | None:
    """Return how the session with ``key`` ended; None if the server is busy or has no reports."""
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_S) as connection:
            if not authenticate(connection, ROLE, key):
                return None
            return ExitReport(**base.recvjson(connection))
    except (OSError, TypeError, ValueError, json.JSONDecodeError):
        return None
