"""The process of a ``Relay``: forwards one connection both ways until either side closes it.

Its arguments are the file descriptors of a listening socket and of the far connection.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

from relax_tapml.targets.child import end_with_parent

FAR_CLOSED = 3
_CHUNK_BYTES = 1 << 18


def main() -> None:
    """Forward until a side closes; exit with ``FAR_CLOSED`` if it was the far side, else 0."""
    listener, far = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:3])
    end_with_parent()
    near, _ = listener.accept()
    listener.close()
    threading.Thread(target=_forward, args=(near, far, 0), daemon=True).start()
    _forward(far, near, FAR_CLOSED)


def _forward(source: socket.socket, sink: socket.socket, exit_code: int) -> None:
    sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with suppress(OSError):
        while size := source.recv_into(buffer):
            sink.sendall(buffer[:size])
    os._exit(exit_code)


if __name__ == "__main__":
    main()
