"""Open a device session from its specification on the command line."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from relax_tapml.errors import UsageError
from relax_tapml.targets.fleet.lease import LeasedDevice, lease
from relax_tapml.targets.fleet.tracker import TrackerKey
from relax_tapml.targets.platforms.platform import RPC, TRACKER
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.server.relay import Relay
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.session import DeviceSession

_RPC = re.compile(r"rpc:(?P<host>.+):(?P<port>\d+)")


def check_session(spec: str, target: Any) -> None:
    """Raise ``UsageError`` unless ``target`` has such a session; nothing is opened."""
    platform = platform_of(target)
    names = list(platform.sessions())
    kind = RPC if _RPC.fullmatch(spec) else TRACKER if TrackerKey.parse(spec) else spec
    names += platform.remote_sessions
    if kind in names:
        return
    raise UsageError(
        f"session {spec!r} of target {platform.name}: expected {', '.join(names[:-1])} or "
        f"{names[-1]}"
    )


def open_session(spec: str, target: Any, *, timeout_s: float = 60.0) -> DeviceSession:
    """Open a session on the device of ``target``.

    Parameters
    ----------
    spec
        Where the device runs: ``process`` (a process of its own on this machine), another name of
        the target's platform (``inline``: this process), ``rpc:HOST:PORT`` or
        ``tracker:HOST:PORT:KEY``.
    target
        The ``tvm.target.Target`` to run code of.
    timeout_s
        How long opening, and then any one call, may take; ``inline`` has no such limit.

    Raises
    ------
    UsageError
        ``spec`` is none of these.
    DeviceUnavailable
        The server cannot be started or reached, or has no such device.
    """
    if timeout_s <= 0:
        raise UsageError(f"timeout_s: expected more than 0 seconds, got {timeout_s:g}")
    check_session(spec, target)
    platform = platform_of(target)
    if tracker := TrackerKey.parse(spec):
        return lease(tracker, target, timeout_s=timeout_s).session
    if match := _RPC.fullmatch(spec):
        platform.prepare_client()
        host, port = match["host"], int(match["port"])
        command = platform.server_command(f"--port {port}")
        relay = Relay(host, port, "", name=spec, command=command, timeout_s=timeout_s)
        return platform.connect(relay, target, timeout_s=timeout_s)
    platform.check()
    platform.prepare_client()
    return platform.sessions()[spec](target, timeout_s)


def open_device(
    spec: str, target: Any, *, timeout_s: float = 60.0, avoided: Collection[str] = ()
) -> Device:
    """Return a device that opens its session with ``open_session`` on first use.

    Parameters
    ----------
    spec, target, timeout_s
        As for ``open_session``.
    avoided
        ``HOST:PORT`` of servers of a tracker that are not to be used.
    """
    if tracker := TrackerKey.parse(spec):
        return LeasedDevice(tracker, target, timeout_s=timeout_s, avoided=avoided)
    return Device(lambda: open_session(spec, target, timeout_s=timeout_s), name=spec)
