"""Forward the bytes of two connections to each other."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import suppress

_CHUNK_BYTES = 1 << 18


def forward(near: socket.socket, far: socket.socket) -> bool:
    """Forward both ways until a side closes; return whether it was the far one."""
    ended: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    for source, sink in ((near, far), (far, near)):
        threading.Thread(target=_copy, args=(source, sink, ended), daemon=True).start()
    return ended.get() is far


def _copy(
    source: socket.socket, sink: socket.socket, ended: queue.SimpleQueue[socket.socket]
) -> None:
    """Copy until a side closes, and put that side into ``ended``."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    side = sink
    with suppress(OSError):
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            side = source
            size = source.recv_into(buffer)
            if size == 0:
                break
            side = sink
            sink.sendall(buffer[:size])
    ended.put(side)
