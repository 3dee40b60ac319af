"""A server of a ``LocalFleet``: registers with a tracker and serves one client after another.

``python -m tvm.exec.rpc_server`` does that too, but the first kernel that crashes ends its
listening thread, and one that never returns blocks it for ever. This one continues after a crash,
and ends a session whose client has closed its connection. A client may request how its session
ended.

Its arguments are the file descriptor of a listening socket, the tracker's address and port, the key
to register with, the name of the platform, and which users it serves: ``own-user`` or ``any-user``.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import struct
import sys
import time
from dataclasses import asdict
from ipaddress import ip_address
from multiprocessing import get_context
from pathlib import Path

from tvm.rpc import base

from relax_tapml.files.scratch import scratch_folder
from relax_tapml.processes.child import end_with_parent, ending_text, is_kill, log_tail
from relax_tapml.system import FORKS_ARE_SAFE
from relax_tapml.targets.fleet._own_user import listener_for
from relax_tapml.targets.platforms.platform import Platform
from relax_tapml.targets.platforms.registry import platform_named
from relax_tapml.targets.server.exit_report import ROLE, ExitReport
from relax_tapml.targets.server.handshake import Client, KeyedListener, send_success

_PING_S = 2.0
_ANSWER_S = 10.0
_RETRY_S = 1.0
_ENDING_S = 2.0
# In a session's folder: its own report of its end, if any, and what it printed.
_REPORT = "exit_report.json"
_LOG = "log"
# A key that was lent and is not used within so many pings is withdrawn.
_PATIENCE = 3
# The client has closed its end, which it does only to leave; macOS reports only POLLHUP.
_HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)
_PROCESS = get_context("fork").Process if FORKS_ARE_SAFE else get_context("spawn").Process


class _Server:
    """Serves the clients of a tracker, registered there as ``key``.

    Attributes
    ----------
    past
        The key of the last session, and its exit report.
    """

    def __init__(self, listener: socket.socket, key: str, platform: Platform) -> None:
        self.listener = listener
        self.key = key
        self.platform = platform
        self.past = "", ExitReport(cause=None)

    def serve(self, tracker: socket.socket) -> None:
        """Serve clients of a tracker until it is lost, which raises ``OSError``."""
        tracker.settimeout(_ANSWER_S)
        magic = struct.pack("<i", base.RPC_TRACKER_MAGIC)
        tracker.sendall(magic)
        if base.recvall(tracker, 4) != magic:
            raise OSError("what answers there is not a TVM RPC tracker")
        info = {"key": f"server:{self.key}", "addr": [self._host, self._port]}
        _request(tracker, base.TrackerCode.UPDATE_INFO, info)
        while True:
            connection, offered = self._accept(tracker)
            self.past = offered, self._run(connection, (tracker, self.listener))

    @property
    def _port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    @property
    def _host(self) -> str | None:
        """The address for clients; None for the one that the tracker sees."""
        host: str = self.listener.getsockname()[0]
        return None if ip_address(host).is_unspecified else host

    def _accept(self, tracker: socket.socket) -> tuple[socket.socket, str]:
        """Offer the device; return the connection of the client it was lent to, and its key.

        A client with the last key gets the exit report of its session.
        """
        offered = self._offer(tracker)
        last, exit_report = self.past
        unused = 0
        with KeyedListener(self.listener) as keyed:
            while True:
                keys = f"client:{offered}", f"{ROLE}:{last}"
                client = keyed.accept(*keys, wait_s=_PING_S)
                if client is not None and _is_served(client, keys[1], exit_report):
                    return client.connection, offered
                if client is not None:
                    continue
                if offered in _request(tracker, base.TrackerCode.GET_PENDING_MATCHKEYS):
                    unused = 0
                elif (unused := unused + 1) > _PATIENCE:
                    offered, unused = self._offer(tracker), 0

    def _offer(self, tracker: socket.socket) -> str:
        offered = str(base.random_key(self.key))
        _request(tracker, base.TrackerCode.PUT, self.key, (self._port, offered), self._host)
        return offered

    def _run(self, connection: socket.socket, others: tuple[socket.socket, ...]) -> ExitReport:
        """Run a session in a process of its own, until that ends or the client is gone."""
        with connection, scratch_folder() as folder:
            # A fork starts at once, and must not keep what this process listens to.
            inherited = others if FORKS_ARE_SAFE else ()
            session = _PROCESS(target=_session, args=(self.platform, connection, inherited, folder))
            session.start()
            poll = select.poll()
            poll.register(connection, _HUNG_UP)
            poll.register(session.sentinel, select.POLLIN)
            poll.poll()
            session.join(_ENDING_S)
            is_stuck = session.is_alive()
            session.kill()
            session.join()
            report = folder / _REPORT
            if report.exists():
                return ExitReport(**json.loads(report.read_text()))
            cause = None if is_stuck else ending_text(session.exitcode)
            return ExitReport(
                cause=cause,
                log=log_tail(folder / _LOG),
                is_killed=not is_stuck and is_kill(session.exitcode),
            )


def main() -> None:
    """Serve clients until the parent ends; reconnect to a lost tracker."""
    host, port, key, name, served = sys.argv[2:7]
    listener = listener_for(served, int(sys.argv[1]))
    end_with_parent()
    logging.getLogger("RPCServer").setLevel(logging.WARNING)
    server = _Server(listener, key, platform_named(name))
    printed = ""
    while True:
        try:
            with socket.create_connection((host, int(port))) as tracker:
                server.serve(tracker)
        except OSError as error:
            if str(error) != printed:  # and not every second
                printed = str(error)
                sys.stderr.write(f"tracker {host}:{port} is lost: {printed}\n")
        time.sleep(_RETRY_S)


def _is_served(client: Client, report_key: str, exit_report: ExitReport) -> bool:
    """Accept a client; return whether it is to be served. If not, it got an exit report."""
    try:
        send_success(client.connection)
        if client.key != report_key:
            return True
        client.connection.settimeout(_ANSWER_S)
        base.sendjson(client.connection, asdict(exit_report))
    except OSError:
        pass  # it has closed the connection
    client.connection.close()
    return False


def _request(tracker: socket.socket, *message: object) -> list[str]:
    base.sendjson(tracker, message)
    try:
        reply = base.recvjson(tracker)
    except ValueError as error:
        raise OSError(f"its answer cannot be read: {error}") from error
    # Other replies are codes.
    return reply if isinstance(reply, list) else []


def _session(
    platform: Platform,
    connection: socket.socket,
    others: tuple[socket.socket, ...],
    folder: Path,
) -> None:
    for other in others:
        other.close()
    os.chdir(folder)
    with (folder / _LOG).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    exit_report = platform.serve(connection, folder)
    if exit_report.cause:
        (folder / _REPORT).write_text(json.dumps(asdict(exit_report)))


if __name__ == "__main__":
    main()
