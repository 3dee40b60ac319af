"""From what the user writes to an open device session."""

from __future__ import annotations

import re
from typing import Any

from relax_tapml.errors import UsageError
from relax_tapml.targets.inline import InlineSession
from relax_tapml.targets.process import DeviceProcess
from relax_tapml.targets.relay import Relay
from relax_tapml.targets.rpc_session import RPCSession
from relax_tapml.targets.session import DeviceSession
from relax_tapml.targets.tracker import request_device

_START_S = 60.0
_RPC = re.compile(r"rpc:(?P<host>.+):(?P<port>\d+)")
_TRACKER = re.compile(r"tracker:(?P<host>.+?):(?P<port>\d+):(?P<key>.+)")


def check_session(spec: str) -> None:
    """Raise ``UsageError`` unless ``open_session`` understands ``spec``; nothing is opened."""
    is_known = spec in ("inline", "process") or _RPC.fullmatch(spec) or _TRACKER.fullmatch(spec)
    if not is_known:
        raise UsageError(
            f"session {spec!r}: expected inline, process, rpc:HOST:PORT or tracker:HOST:PORT:KEY"
        )


def open_session(spec: str, target: Any, *, timeout_s: float = 60.0) -> DeviceSession:
    """Open a session on the device of ``target``.

    Parameters
    ----------
    spec
        Where the device runs: ``inline`` (this process), ``process`` (a process of its own here),
        ``rpc:HOST:PORT`` or ``tracker:HOST:PORT:KEY``.
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
    check_session(spec)
    if spec == "inline":
        return InlineSession(target)
    if spec == "process":
        # A call may have to be quick, but starting Python and TVM takes the time it takes.
        start_s = max(timeout_s, _START_S)
        return RPCSession(DeviceProcess(), target, timeout_s=timeout_s, start_s=start_s)
    if match := _RPC.fullmatch(spec):
        host, port, key = match["host"], int(match["port"]), ""
    elif match := _TRACKER.fullmatch(spec):
        host, port, key = request_device(
            match["host"], int(match["port"]), match["key"], timeout_s=timeout_s
        )
    relay = Relay(host, port, key, name=spec, timeout_s=timeout_s)
    return RPCSession(relay, target, timeout_s=timeout_s)
