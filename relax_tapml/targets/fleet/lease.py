"""Devices lent by a tracker: each session is on a server that is free."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.fleet.tracker import TrackerKey, request_device
from relax_tapml.targets.platforms.platform import START_S
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.server.relay import Relay
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.session import DeviceSession

_ATTEMPTS = 3
_ANSWER_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A session on a server of a tracker; closing the session returns the server.

    Parameters
    ----------
    session
        Open.
    address
        ``HOST:PORT`` of the server.
    relay
        The connection, which another thread may cut.
    """

    session: DeviceSession
    address: str
    relay: Relay


def lease(
    tracker: TrackerKey,
    target: Any,
    *,
    timeout_s: float,
    wait_s: float | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Lease:
    """Open a session on a server of a key; on another one if that cannot be reached.

    Parameters
    ----------
    tracker
        The tracker and the key.
    target
        The ``tvm.target.Target`` to run code of.
    timeout_s
        How long one call may take; starting a device may take longer.
    wait_s
        How long to wait for a free server; ``timeout_s`` by default.
    is_wanted
        Called repeatedly; the waiting ends when it returns false.

    Raises
    ------
    DeviceUnavailable
        No server was free in time, or none of several could be used.
    """
    platform = platform_of(target)
    platform.prepare_client()  # before a server is lent, which would have to wait
    end = time.monotonic() + (timeout_s if wait_s is None else wait_s)
    command = platform.server_command(
        f"--tracker {tracker.host}:{tracker.port} --key {tracker.key}"
    )
    for attempt in range(_ATTEMPTS):
        left_s = max(round(end - time.monotonic(), 1), 0.1)
        host, port, key = request_device(
            tracker.host, tracker.port, tracker.key, timeout_s=left_s, is_wanted=is_wanted
        )
        name = f"{tracker.key} at {host}:{port}"
        try:
            # The server may have ended since it registered.
            relay = Relay(host, port, key, name=name, command=command, timeout_s=timeout_s)
            session = platform.connect(
                relay, target, timeout_s=timeout_s, start_s=max(timeout_s, START_S)
            )
        except DeviceUnavailable:
            if attempt + 1 == _ATTEMPTS or time.monotonic() > end:
                raise
        else:
            return Lease(session=session, address=f"{host}:{port}", relay=relay)
    raise AssertionError("the last attempt returns or raises")


class LeasedDevice(Device):
    """A ``Device`` whose sessions a tracker lends, each on any of its servers.

    Parameters
    ----------
    tracker, target, timeout_s
        As for ``lease``.
    avoided
        Addresses not to be used; read for each session, so the caller may add to it. A server that
        is lent nevertheless is kept until ``close``, so that the tracker lends another one.
    wait_s
        Returns how long to wait for a free server; ``timeout_s`` by default.
    is_wanted
        As for ``lease``.
    """

    def __init__(
        self,
        tracker: TrackerKey,
        target: Any,
        *,
        timeout_s: float,
        avoided: Collection[str] = (),
        wait_s: Callable[[], float] | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(self._lease, name="")
        self._tracker = tracker
        self._target = target
        self._timeout_s = timeout_s
        self._avoided = avoided
        self._wait_s = wait_s or (lambda: timeout_s)
        self._is_wanted = is_wanted
        self._unused: list[DeviceSession] = []
        self._relay: Relay | None = None

    def close(self) -> None:
        """End the session, if any, and return servers that were lent but not used."""
        super().close()
        while self._unused:
            self._unused.pop().close()

    def is_gone(self) -> bool:
        """Whether nothing accepts connections any more at the address of the last session."""
        host, _, port = self.name.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        except OSError:
            return True
        return False

    def interrupt(self) -> None:
        """Make a call that waits for the device fail. Never raises; callable from any thread."""
        if self._relay is not None:
            self._relay.interrupt()

    def _lease(self) -> DeviceSession:
        end = time.monotonic() + self._wait_s()
        while True:
            lent = lease(
                self._tracker,
                self._target,
                timeout_s=self._timeout_s,
                wait_s=max(end - time.monotonic(), 0.1),
                is_wanted=self._is_wanted,
            )
            if lent.address not in self._avoided:
                self.name, self._relay = lent.address, lent.relay
                return lent.session
            self._unused.append(lent.session)
