"""Passing on what two connections say to each other."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import suppress

_CHUNK_BYTES = 1 << 18


def forward(near: socket.socket, far: socket.socket) -> bool:
    """Forward both ways until a side closes; return whether it was the far one."""
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()
    for source, sink, is_far in ((near, far, False), (far, near, True)):
        threading.Thread(target=_copy, args=(source, sink, is_far, ended), daemon=True).start()
    return ended.get()


def _copy(
    source: socket.socket, sink: socket.socket, is_far: bool, ended: queue.SimpleQueue[bool]
) -> None:
    sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with suppress(OSError):
        while size := source.recv_into(buffer):
            sink.sendall(buffer[:size])
    ended.put(is_far)
