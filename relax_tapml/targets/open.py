"""From what the user writes to an open device session."""

from __future__ import annotations

import re
from typing import Any

from relax_tapml.errors import UsageError
from relax_tapml.targets.registry import platform_of
from relax_tapml.targets.relay import Relay
from relax_tapml.targets.session import DeviceSession
from relax_tapml.targets.tracker import request_device

_RPC = re.compile(r"rpc:(?P<host>.+):(?P<port>\d+)")
_TRACKER = re.compile(r"tracker:(?P<host>.+?):(?P<port>\d+):(?P<key>.+)")


def check_session(spec: str, target: Any) -> None:
    """Raise ``UsageError`` unless ``target`` has such a session; nothing is opened."""
    platform = platform_of(target)
    names = list(platform.sessions())
    is_remote = _RPC.fullmatch(spec) or _TRACKER.fullmatch(spec)
    if spec in names or (is_remote and platform.is_remote):
        return
    if platform.is_remote:
        names += ["rpc:HOST:PORT", "tracker:HOST:PORT:KEY"]
    raise UsageError(
        f"session {spec!r} of target {platform.name}: expected {', '.join(names[:-1])} or "
        f"{names[-1]}"
    )


def open_session(spec: str, target: Any, *, timeout_s: float = 60.0) -> DeviceSession:
    """Open a session on the device of ``target``.

    Parameters
    ----------
    spec
        Where the device runs: ``process`` (a process of its own here), another name that the
        target's platform knows (``inline``: this process), ``rpc:HOST:PORT`` or
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
    if match := _RPC.fullmatch(spec):
        host, port, key = match["host"], int(match["port"]), ""
    elif match := _TRACKER.fullmatch(spec):
        host, port, key = request_device(
            match["host"], int(match["port"]), match["key"], timeout_s=timeout_s
        )
    else:
        platform.check()
        return platform.sessions()[spec](target, timeout_s)
    relay = Relay(host, port, key, name=spec, timeout_s=timeout_s)
    return platform.connect(relay, target, timeout_s=timeout_s)
