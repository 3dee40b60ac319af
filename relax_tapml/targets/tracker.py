"""Asking a TVM RPC tracker for a device."""

from __future__ import annotations

import socket
import struct
from typing import Any

from tvm.rpc import base

from relax_tapml.errors import DeviceUnavailable


def request_device(host: str, port: int, key: str, *, timeout_s: float) -> tuple[str, int, str]:
    """Return address, port and key of a server of kind ``key``, waiting for one to become free.

    ``tvm.rpc.connect_tracker`` waits for a silent or busy tracker for ever; this does not.

    Raises
    ------
    DeviceUnavailable
        There is no tracker at the address, or no server was free in time.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as tracker:
            tracker.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            if base.recvall(tracker, 4) != struct.pack("<i", base.RPC_TRACKER_MAGIC):
                raise DeviceUnavailable(
                    f"what answers at {host}:{port} is not a TVM RPC tracker; for a server use "
                    f"rpc:{host}:{port}"
                )
            base.sendjson(tracker, [base.TrackerCode.REQUEST, key, "", 1])
            reply: list[Any] = base.recvjson(tracker)
    except TimeoutError as error:
        raise DeviceUnavailable(
            f"tracker {host}:{port} had no free device of key {key!r} in {timeout_s:g} s; see "
            f"'python -m tvm.exec.query_rpc_tracker --host {host} --port {port}'"
        ) from error
    except (OSError, ValueError) as error:
        raise DeviceUnavailable(
            f"cannot ask the tracker at {host}:{port} for a device: {error}. Start "
            f"'python -m tvm.exec.rpc_tracker --port {port}' there, or check the address"
        ) from error
    if reply[0] != base.TrackerCode.SUCCESS:
        raise DeviceUnavailable(f"tracker {host}:{port} refused a device of key {key!r}: {reply}")
    server_host, server_port, server_key = reply[1]
    return server_host, int(server_port), server_key
