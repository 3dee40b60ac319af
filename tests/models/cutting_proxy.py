"""A way to a server that breaks in the middle of an answer.

Arguments are the server's port and the path of a folder. While there is none, bytes are passed on;
once somebody has made it, it is removed, and the answer that comes next ends after a few bytes.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

CUT_AFTER_BYTES = 5  # Of the eight that say how long the answer is.


def main(port: int, folder: Path) -> None:
    """Print the proxy's port and serve until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, port, folder), daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


def serve(listener: socket.socket, port: int, folder: Path) -> None:
    """Connect every client with the server."""
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", port))
        for source, sink, cut in ((near, far, None), (far, near, folder)):
            threading.Thread(target=forward, args=(source, sink, cut), daemon=True).start()


def forward(source: socket.socket, sink: socket.socket, cut: Path | None) -> None:
    """Pass on what one side sends until it ends, or until the cut; then end both."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            is_cut = cut is not None and cut.exists()
            sink.sendall(data[:CUT_AFTER_BYTES] if is_cut else data)
            if is_cut:
                cut.rmdir()
                break
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
