"""The device process, started by ``DeviceProcess``: serves one RPC client and ends with it.

Its first argument is the file descriptor of a listening socket, its secret the key a client must
present. Further arguments are paths of libraries that add devices to TVM.
TMPDIR is its own folder, which it removes if the client's process is killed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import sys
from pathlib import Path

from tvm.rpc import server
from tvm.support import utils

from relax_tapml.processes.child import end_with_parent
from relax_tapml.targets.server import file_exchange, region_calls, timed_call
from relax_tapml.targets.server.handshake import KeyedListener, send_success

_WAIT_S = 3600.0


def main() -> None:
    """Serve one client, then return."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    key = end_with_parent()
    # Not gettempdir: that chooses a shared folder if this one cannot be written to.
    folder = Path(os.environ["TMPDIR"])
    # Each loaded kernel would be a line of the log that is printed after a crash.
    logging.getLogger("RPCServer").setLevel(logging.WARNING)
    for library in sys.argv[2:]:
        ctypes.CDLL(library)
    file_exchange.register(folder)
    region_calls.register()
    timed_call.register()
    connection = _accept(listener, key)
    listener.close()
    server._serve_loop(connection, "", utils.tempdir())


def _accept(listener: socket.socket, key: str) -> socket.socket:
    """Return the first connection that presents the key."""
    with KeyedListener(listener) as keyed:
        while True:
            client = keyed.accept(f"client:{key}", wait_s=_WAIT_S)
            if client is not None:
                send_success(client.connection)
                return client.connection


if __name__ == "__main__":
    main()
