"""How a TVM RPC server and its client begin."""

from __future__ import annotations

import socket
import struct

from tvm.rpc import base

_HANDSHAKE_S = 10.0


def greet(connection: socket.socket, key: str) -> bool:
    """Answer a client that has connected; return whether it presented the key, and may go on.

    Parameters
    ----------
    connection
        Just accepted. Without a limit of time afterwards.
    key
        What a client must know.
    """
    try:
        connection.settimeout(_HANDSHAKE_S)
        magic, length = struct.unpack("<ii", base.recvall(connection, 8))
        if magic != base.RPC_MAGIC or not 0 < length <= 256:
            return False
        presented = base.recvall(connection, length).decode(errors="replace")
        # Options of the client may follow the key.
        if presented.split(" ")[0] != f"client:{key}":
            connection.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))
            return False
        name = b"server:relax_tapml"
        connection.sendall(struct.pack("<ii", base.RPC_CODE_SUCCESS, len(name)) + name)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        return False
    return True
