"""A tracker and servers of our own on this machine, to try a fleet without boards."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.targets.child import Child
from relax_tapml.targets.tracker import tracker_status

_HOST = "127.0.0.1"
_POLL_S = 0.1


class LocalFleet:
    """A tracker and servers, each a process that ends with us; only this machine reaches them.

    Parameters
    ----------
    count
        How many servers to start.
    key
        What they register as.
    port
        Of the tracker; 0 for any that is free.

    Attributes
    ----------
    servers
        The process of each server by its address, ``HOST:PORT``.

    Raises
    ------
    UsageError
        The port is taken.
    DeviceUnavailable
        A process cannot be started.
    """

    def __init__(self, count: int, *, key: str, port: int = 0) -> None:
        self.key = key
        self.servers: dict[str, Child] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="relax_tapml_fleet_"))
        self._children: list[Child] = []
        try:
            with _listener(port) as listener:
                self.port = listener.getsockname()[1]
                self._children.append(Child("relax_tapml.targets.fleet_tracker", [listener]))
            for _ in range(count):
                self.add_server()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise DeviceUnavailable(f"a server cannot be started: {error}") from error
            raise

    @property
    def session(self) -> str:
        """What to give to ``--session``."""
        return f"tracker:{_HOST}:{self.port}:{self.key}"

    def add_server(
        self, *, key: str | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Start one more server and return its address; it registers when it is up.

        Parameters
        ----------
        key
            What it registers as, if not as the others.
        environment
            Set for it in addition to ours.
        """
        folder = self._folder / f"server{len(self.servers)}"
        folder.mkdir()
        with _listener(0) as listener:
            address = f"{_HOST}:{listener.getsockname()[1]}"
            child = Child(
                "relax_tapml.targets.fleet_server",
                [listener],
                arguments=[_HOST, str(self.port), key or self.key],
                log=folder / "log",
                environment={"TMPDIR": str(folder), **(environment or {})},
            )
        self._children.append(child)
        self.servers[address] = child
        return address

    def wait(self, timeout_s: float = 60.0) -> None:
        """Wait until all servers are free. Raises ``DeviceUnavailable`` if that takes longer."""
        end = time.monotonic() + timeout_s
        while True:
            keys = tracker_status(_HOST, self.port, timeout_s=timeout_s)
            if sum(status.free for status in keys.values()) >= len(self.servers):
                return
            ended = [a for a, child in self.servers.items() if child.exit_code(0) is not None]
            if ended or time.monotonic() > end:
                raise DeviceUnavailable(
                    f"the fleet did not come up in {timeout_s:g} s; what its servers say is in "
                    f"{self._folder}" + (f". Ended: {', '.join(ended)}" if ended else "")
                )
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End all of them and wait for their end. Never raises; may be called twice."""
        for child in self._children:
            child.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        if port == 0:
            raise
        raise UsageError(f"--port {port}: {error.strerror}; 0 chooses a free one") from error
