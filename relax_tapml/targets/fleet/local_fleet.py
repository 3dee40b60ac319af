"""A tracker and servers on this machine, to lend its devices or to try a fleet."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from ipaddress import ip_address

from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.processes.child import Child, ending_text
from relax_tapml.processes.deadline import Deadline
from relax_tapml.targets.fleet._own_user import ANY_USER, OWN_USER, check_users_are_visible
from relax_tapml.targets.fleet.tracker import tracker_status

LOOPBACK = "127.0.0.1"
_POLL_S = 0.1


class LocalFleet:
    """A tracker and servers, each in a process that ends with this one.

    Parameters
    ----------
    count
        How many servers to start.
    key
        What they register as.
    port
        Of the tracker; 0 for any that is free.
    platform
        The name of the platform whose devices the servers have.
    tracker
        Host and port of a running tracker; none is started then.
    host
        The address of this machine that servers listen on.
    is_shared
        Serve all users of this machine. Otherwise the tracker and servers on a loopback address
        serve this user only; servers on other addresses serve all clients.

    Attributes
    ----------
    servers
        The process of each server by its address, ``HOST:PORT``; the later one if two had the same
        address.
    tracker
        Host and port.

    Raises
    ------
    UsageError
        The port is taken, or the tracker is on another machine, which cannot lend these servers.
    DeviceUnavailable
        A process cannot be started, or the system does not list the owners of connections.
    """

    def __init__(
        self,
        count: int,
        *,
        key: str,
        port: int = 0,
        platform: str = "llvm",
        tracker: tuple[str, int] | None = None,
        host: str = LOOPBACK,
        is_shared: bool = False,
    ) -> None:
        self.key = key
        self._platform = platform
        self._host = host
        self._is_joined = tracker is not None
        self.servers: dict[str, Child] = {}
        self._children: list[Child] = []
        self._tracker_serves = ANY_USER if is_shared else OWN_USER
        self._is_local = _check_reach(tracker, host)
        self._servers_serve = self._tracker_serves if self._is_local else ANY_USER
        if OWN_USER in (self._servers_serve, self._tracker_serves):
            check_users_are_visible()
        try:
            if tracker:
                self.tracker = tracker
            else:
                with _listener(LOOPBACK, port) as listener:
                    self.tracker = LOOPBACK, listener.getsockname()[1]
                    self._children.append(
                        Child(
                            "relax_tapml.targets.fleet._fleet_tracker",
                            [listener],
                            [self._tracker_serves],
                        )
                    )
            for _ in range(count):
                self.add_server()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise DeviceUnavailable(f"a server cannot be started: {error}") from error
            raise

    @property
    def session(self) -> str:
        """The value for ``--session``."""
        return f"tracker:{self.tracker[0]}:{self.tracker[1]}:{self.key}"

    @property
    def reach(self) -> str:
        """Which users can run code on the servers, as this user; a sentence's start."""
        if self._servers_serve == OWN_USER:
            return "Only this user's processes on this machine are served"
        users = "Every user of" if self._is_local else "All who can reach"
        return f"{users} this machine can run code on it as this user"

    def add_server(
        self, *, key: str | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Start one more server and return its address; it registers when it is up.

        Parameters
        ----------
        key
            What it registers as; the key of the fleet by default.
        environment
            Added to the environment of this process.
        """
        with _listener(self._host, 0) as listener:
            address = f"{self._host}:{listener.getsockname()[1]}"
            child = Child(
                "relax_tapml.targets.fleet._fleet_server",
                [listener],
                arguments=[
                    *map(str, self.tracker),
                    key or self.key,
                    self._platform,
                    self._servers_serve,
                ],
                folder=ScratchFolder(),
                environment=dict(environment or {}),
            )
        self._children.append(child)
        self.servers[address] = child
        return address

    def wait(self, timeout_s: float = 60.0) -> None:
        """Wait until all servers are free. Raises ``DeviceUnavailable`` if that takes longer.

        Processor time counts; see ``Deadline``.
        """
        with Deadline(timeout_s, lambda: None, pid=os.getpid()) as deadline:
            self._wait(deadline, timeout_s)

    def _wait(self, deadline: Deadline, timeout_s: float) -> None:
        while True:
            keys = tracker_status(*self.tracker, timeout_s=timeout_s)
            # The tracker has its own address for this machine: compare ports.
            there = {_port(server) for status in keys.values() for server in status.servers}
            free = sum(status.free for status in keys.values())
            # A tracker that runs already may have lent them meanwhile.
            are_free = self._is_joined or free >= len(self.servers)
            if are_free and there.issuperset(map(_port, self.servers)):
                return
            for address, child in self.servers.items():
                if (code := child.exit_code(0)) is not None:
                    raise DeviceUnavailable(
                        f"server {address} of the fleet {ending_text(code)}: {child.log_tail()}"
                    )
            if deadline.is_expired:
                missing = [a for a in self.servers if _port(a) not in there]
                raise DeviceUnavailable(
                    f"the fleet did not come up in {deadline.text}: "
                    + (f"{', '.join(missing)} did not register" if missing else "none is free")
                )
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End all of them and wait for their end. Never raises; may be called twice."""
        for child in self._children:
            child.close()


def _check_reach(tracker: tuple[str, int] | None, host: str) -> bool:
    """Return whether servers that listen on an address can be reached from this machine only.

    Raises ``UsageError`` if clients of the tracker could not reach them.
    """
    try:
        is_loopback = ip_address(socket.gethostbyname(host)).is_loopback
    except OSError as error:
        raise UsageError(f"--host {host}: {error}; give an address of this machine") from error
    if tracker is None:
        if not is_loopback:
            raise UsageError(
                f"--host {host}: the tracker started here can be reached from this machine only. "
                "Start one with 'python -m tvm.exec.rpc_tracker' and pass it with --tracker"
            )
        return True
    name, port = tracker
    try:
        is_here = ip_address(socket.gethostbyname(name)).is_loopback
    except OSError as error:
        raise DeviceUnavailable(f"tracker {name}:{port}: {error}") from error
    if is_loopback and not is_here:
        raise UsageError(
            f"clients of {name}:{port} cannot reach servers on {host}; with --host 0.0.0.0 all who "
            "can reach this machine can run code on it"
        )
    return is_loopback


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        if port == 0:
            raise
        raise UsageError(f"--port {port}: {error.strerror}; 0 chooses a free one") from error
