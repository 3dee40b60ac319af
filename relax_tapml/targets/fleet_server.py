"""A server of a ``LocalFleet``: registers with a tracker and serves one client after another.

``python -m tvm.exec.rpc_server`` does that too, but the first kernel that crashes ends its
listening thread, and one that never returns keeps it busy for ever. This one goes on after a crash,
and a client that hangs up ends what still runs for it.

Its arguments are the file descriptor of a listening socket, the tracker's address and port, and the
key to register with. TMPDIR is a folder of its own, which it removes when the parent is gone.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import shutil
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tvm.rpc import base, server
from tvm.support import utils

from relax_tapml.targets.child import end_with_parent
from relax_tapml.targets.handshake import greet

_PING_S = 2.0
_RETRY_S = 1.0
_ENDING_S = 2.0
# A key that was lent and not used within so many pings is withdrawn.
_PATIENCE = 3
# The client has closed its end, which it does not do in the middle; macOS tells less of that.
_HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)


def main() -> None:
    """Serve clients until the parent is gone; a lost tracker is looked for again."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    host, port, key = sys.argv[2:5]
    folder = Path(os.environ["TMPDIR"])
    end_with_parent(lambda: shutil.rmtree(folder, ignore_errors=True))
    logging.getLogger("RPCServer").setLevel(logging.WARNING)
    while True:
        with suppress(OSError), socket.create_connection((host, int(port))) as tracker:
            _introduce(tracker, listener, key)
            while True:
                _serve(_accept(tracker, listener, key), (tracker, listener))
        time.sleep(_RETRY_S)


def _introduce(tracker: socket.socket, listener: socket.socket, key: str) -> None:
    tracker.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
    base.recvall(tracker, 4)
    info = {"key": f"server:{key}", "addr": [None, listener.getsockname()[1]]}
    _ask(tracker, base.TrackerCode.UPDATE_INFO, info)


def _accept(tracker: socket.socket, listener: socket.socket, key: str) -> socket.socket:
    """Offer the device, and return the connection of the client it was lent to."""
    offered = _offer(tracker, listener, key)
    unused = 0
    while True:
        if select.select([listener], [], [], _PING_S)[0]:
            connection, _ = listener.accept()
            if greet(connection, offered):
                return connection
            connection.close()
        elif offered in _ask(tracker, base.TrackerCode.GET_PENDING_MATCHKEYS):
            unused = 0
        elif (unused := unused + 1) > _PATIENCE:
            offered, unused = _offer(tracker, listener, key), 0


def _offer(tracker: socket.socket, listener: socket.socket, key: str) -> str:
    offered = base.random_key(key)
    port = listener.getsockname()[1]
    _ask(tracker, base.TrackerCode.PUT, key, (port, offered), None)
    return str(offered)


def _ask(tracker: socket.socket, *message: object) -> list[str]:
    base.sendjson(tracker, message)
    reply: list[str] = base.recvjson(tracker)
    return reply


def _serve(connection: socket.socket, others: tuple[socket.socket, ...]) -> None:
    """Run a client's session in a process of its own, until that ends or the client is gone."""
    with connection, tempfile.TemporaryDirectory() as folder:
        session = multiprocessing.get_context("fork").Process(
            target=_run, args=(connection, others, folder)
        )
        session.start()
        poll = select.poll()
        poll.register(connection, _HUNG_UP)
        poll.register(session.sentinel, select.POLLIN)
        poll.poll()
        session.join(_ENDING_S)
        session.kill()
        session.join()


def _run(connection: socket.socket, others: tuple[socket.socket, ...], folder: str) -> None:
    for other in others:
        other.close()
    os.chdir(folder)
    server._serve_loop(connection, "", utils.tempdir(f"{folder}/work"))


if __name__ == "__main__":
    main()
