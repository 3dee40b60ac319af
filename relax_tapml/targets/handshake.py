"""How a TVM RPC server and its client begin."""

from __future__ import annotations

import socket
import struct

from tvm.rpc import base

_HANDSHAKE_S = 10.0
_MAX_BYTES = 256
# Seconds and probes until a connection whose other end has vanished is lost, as in arm64/server.cc;
# not every system has all of them, and macOS has the first under the second name.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
}


def greet(connection: socket.socket, *keys: str) -> str:
    """Answer a client that has connected, and let it go on if it presents a key.

    Parameters
    ----------
    connection
        Just accepted. Without a limit of time afterwards, but lost a minute after the client's
        machine is.
    keys
        What a client must know, each as ``ROLE:KEY``; the role is ``client`` for RPC.

    Returns
    -------
    str
        The one it presented; empty where it may not go on.
    """
    try:
        connection.settimeout(_HANDSHAKE_S)
        magic, length = struct.unpack("<ii", base.recvall(connection, 8))
        if magic != base.RPC_MAGIC or not 0 < length <= _MAX_BYTES:
            return ""
        # Options of the client may follow the key.
        presented: str = base.recvall(connection, length).decode(errors="replace").split(" ")[0]
        if presented not in keys:
            connection.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))
            return ""
        name = b"server:relax_tapml"
        connection.sendall(struct.pack("<ii", base.RPC_CODE_SUCCESS, len(name)) + name)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    except OSError:
        return ""
    return presented


def present(connection: socket.socket, role: str, key: str) -> bool:
    """Present a key to a server; return whether it lets us go on. Raises ``OSError``.

    Parameters
    ----------
    connection
        Just opened.
    role, key
        What the server knows us by.
    """
    presented = f"{role}:{key}".encode()
    connection.sendall(struct.pack("<ii", base.RPC_MAGIC, len(presented)) + presented)
    (code,) = struct.unpack("<i", base.recvall(connection, 4))
    if code != base.RPC_CODE_SUCCESS:
        return False
    (length,) = struct.unpack("<i", base.recvall(connection, 4))
    base.recvall(connection, length)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return True
