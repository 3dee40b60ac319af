"""Requests to a TVM RPC tracker: for a device, and for a list of its devices."""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.rpc import base

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.printable import names_text

_SPEC = re.compile(r"tracker:(?P<host>.+?):(?P<port>\d+):(?P<key>.+)")
_POLL_S = 0.1
_STATUS_S = 2.0
_RETURN_S = 1.0
_LISTED = 8


@dataclass(frozen=True, kw_only=True)
class TrackerKey:
    """A kind of device at a tracker, ``tracker:HOST:PORT:KEY`` in a ``--session``."""

    host: str
    port: int
    key: str

    @classmethod
    def parse(cls, spec: str) -> TrackerKey | None:
        """Return the key in a session's specification; None if that is no tracker."""
        match = _SPEC.fullmatch(spec)
        return match and cls(host=match["host"], port=int(match["port"]), key=match["key"])


@dataclass(frozen=True, kw_only=True)
class KeyStatus:
    """The devices of one key.

    Parameters
    ----------
    servers
        ``HOST:PORT`` of those that are registered, sorted.
    free
        How many of them are not in use; the tracker does not report which.
    """

    servers: tuple[str, ...]
    free: int

    @property
    def busy(self) -> int:
        """How many are in use, or have just been lent."""
        return max(len(self.servers) - self.free, 0)


def tracker_status(host: str, port: int, *, timeout_s: float) -> dict[str, KeyStatus]:
    """Return the devices of a tracker by key; keys without a server are left out.

    Raises
    ------
    DeviceUnavailable
        There is no tracker at the address, or it did not answer in time.
    """
    try:
        with _connected(host, port, timeout_s) as tracker:
            base.sendjson(tracker, [base.TrackerCode.SUMMARY])
            _, summary = base.recvjson(tracker)
    except (OSError, ValueError) as error:
        raise _unreachable(host, port, error) from error
    servers: dict[str, list[str]] = {}
    for item in summary["server_info"]:
        address = ":".join(map(str, item["addr"]))
        servers.setdefault(item["key"].removeprefix("server:"), []).append(address)
    free = {key: int(queue["free"]) for key, queue in summary["queue_info"].items()}
    return {
        key: KeyStatus(servers=tuple(sorted(servers[key])), free=free.get(key, 0))
        for key in sorted(servers)
    }


def free_devices(tracker: TrackerKey, *, timeout_s: float) -> int:
    """Return how many devices of a key are free, after a short wait for those being returned.

    Raises
    ------
    DeviceUnavailable
        There is no tracker at the address, or it did not answer in time.
    """
    end = time.monotonic() + _RETURN_S
    while True:
        keys = tracker_status(tracker.host, tracker.port, timeout_s=timeout_s)
        status = keys.get(tracker.key, KeyStatus(servers=(), free=0))
        if status.busy == 0 or time.monotonic() > end:
            return status.free
        time.sleep(_POLL_S)


def request_device(
    host: str,
    port: int,
    key: str,
    *,
    timeout_s: float,
    is_wanted: Callable[[], bool] = lambda: True,
) -> tuple[str, int, str]:
    """Return address, port and key of a server of kind ``key``, waiting for one to become free.

    ``tvm.rpc.connect_tracker`` waits without a limit for a silent or busy tracker.

    Parameters
    ----------
    host, port
        Of the tracker.
    key
        The kind of device.
    timeout_s
        How long to wait.
    is_wanted
        Called repeatedly; the waiting ends when it returns false.

    Raises
    ------
    DeviceUnavailable
        There is no tracker at the address, or no server was free in time.
    """
    end = time.monotonic() + timeout_s
    try:
        with _connected(host, port, timeout_s) as tracker:
            base.sendjson(tracker, [base.TrackerCode.REQUEST, key, "", 1])
            while not select.select([tracker], [], [], _POLL_S)[0]:
                if not is_wanted():
                    raise DeviceUnavailable(
                        f"a device of key {key!r} of tracker {host}:{port} is not needed any more"
                    )
                if time.monotonic() > end:
                    raise TimeoutError
            reply: list[Any] = base.recvjson(tracker)
    except TimeoutError as error:
        raise DeviceUnavailable(
            f"tracker {host}:{port} had no free device of key {key!r} in {timeout_s:g} s: "
            f"{_registered_text(host, port, key)}. See 'relax-tapml fleet status {host}:{port}'"
        ) from error
    except (OSError, ValueError) as error:
        raise _unreachable(host, port, error) from error
    if reply[0] != base.TrackerCode.SUCCESS:
        raise DeviceUnavailable(f"tracker {host}:{port} refused a device of key {key!r}: {reply}")
    server_host, server_port, server_key = reply[1]
    return server_host, int(server_port), server_key


def _connected(host: str, port: int, timeout_s: float) -> socket.socket:
    tracker = socket.create_connection((host, port), timeout=timeout_s)
    try:
        tracker.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
        if base.recvall(tracker, 4) != struct.pack("<i", base.RPC_TRACKER_MAGIC):
            raise DeviceUnavailable(
                f"what answers at {host}:{port} is not a TVM RPC tracker; for a server use "
                f"rpc:{host}:{port}"
            )
    except BaseException:
        tracker.close()
        raise
    return tracker


def _unreachable(host: str, port: int, error: Exception) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"cannot use the tracker at {host}:{port}: {error}. Start "
        f"'python -m tvm.exec.rpc_tracker --port {port}' there, or check the address; a tracker of "
        "'relax-tapml fleet up' serves only the user who started it, unless --any-user is given"
    )


def _registered_text(host: str, port: int, key: str) -> str:
    """Describe what is registered where nothing was free, for a message."""
    try:
        keys = tracker_status(host, port, timeout_s=_STATUS_S)
    except DeviceUnavailable:
        return "it does not answer"
    if key in keys:
        servers = keys[key].servers
        return (
            f"{len(servers)} of that key {'is' if len(servers) == 1 else 'are'} registered, none "
            f"is free ({names_text(servers, _LISTED)})"
        )
    if keys:
        there = ", ".join(f"{name!r} ({len(status.servers)})" for name, status in keys.items())
        return f"no server of that key is registered; the keys there are {there}"
    return "no server is registered there"
