"""How a TVM RPC server and its client begin. TVM itself, which takes long to import, is not needed.

The client says a magic number, the length of its key and the key, which options may follow after a
space. The server answers with a code, and after success with the length of its name and the name.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

# As in tvm.rpc.base.
SUCCESS = 0xFF271
_MAGIC = SUCCESS
_MISMATCH = _MAGIC + 2
_HEAD = struct.Struct("<ii")
_NAME = b"server:relax_tapml"

_HANDSHAKE_S = 10.0
_MAX_BYTES = 256
_MAX_VISITORS = 32
# Seconds and probes until a connection whose other end has vanished is lost, as in entrance.cc;
# not every system has all of them, and macOS has the first under the second name.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
}


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who presented a key and waits for an answer.

    Parameters
    ----------
    connection
        Without a limit of time, but lost a minute after the client's machine is.
    key
        The one it presented, as ``ROLE:KEY``.
    options
        What it said after the key, with the space before it; empty if nothing.
    """

    connection: socket.socket
    key: str
    options: str


class Entrance:
    """Listens to everyone who connects at once, until one presents a key; a context manager.

    Who says nothing keeps nobody waiting: it is sent away after ten seconds, or where more than
    ``32`` are there, the one that has been there for longest. What is left at the end is closed.

    Parameters
    ----------
    listener
        A listening socket, which stays its owner's.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._visitors: dict[socket.socket, _Visitor] = {}  # the oldest first
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Entrance:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in list(self._visitors):
            self._dismiss(connection)
        self._selector.close()
        self._listener.setblocking(True)

    def meet(self, *keys: str, wait_s: float) -> Client | None:
        """Return who presented one of some keys first, None if nobody did in ``wait_s`` seconds.

        Whoever presents another key is refused.

        Parameters
        ----------
        keys
            What a client must know, each as ``ROLE:KEY``; the role is ``client`` for RPC.
        wait_s
            How long to wait.
        """
        end = time.monotonic() + wait_s
        while True:
            self._dismiss_silent()
            left_s = end - time.monotonic()
            if left_s <= 0:
                return None
            for ready, _ in self._selector.select(min(left_s, self._patience_s())):
                visitor = self._visitors.get(ready.data)
                if ready.fileobj is self._listener:
                    self._accept()
                elif visitor is not None and (client := self._heard(visitor, keys)) is not None:
                    return client

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has left
        connection.setblocking(False)
        self._visitors[connection] = _Visitor(connection)
        self._selector.register(connection, selectors.EVENT_READ, connection)
        if len(self._visitors) > _MAX_VISITORS:
            self._dismiss(next(iter(self._visitors)))

    def _heard(self, visitor: _Visitor, keys: Collection[str]) -> Client | None:
        """Read what a visitor says; return it as a client if it has said one of the keys."""
        connection = visitor.connection
        try:
            said = visitor.read()
        except OSError:
            self._dismiss(connection)
            return None
        if said is None:
            return None
        key, space, options = said.partition(" ")
        if key not in keys:
            with suppress(OSError):
                connection.send(struct.pack("<i", _MISMATCH))
            self._dismiss(connection)
            return None
        self._selector.unregister(connection)
        del self._visitors[connection]
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return Client(connection=connection, key=key, options=space + options)

    def _patience_s(self) -> float:
        """Return how long until somebody has been silent for too long."""
        if not self._visitors:
            return _HANDSHAKE_S
        oldest = next(iter(self._visitors.values()))
        return max(oldest.until - time.monotonic(), 0)

    def _dismiss_silent(self) -> None:
        now = time.monotonic()
        for visitor in list(self._visitors.values()):
            if visitor.until <= now:
                self._dismiss(visitor.connection)

    def _dismiss(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._visitors[connection]
        connection.close()


@dataclass
class _Visitor:
    """Who has connected, and what it has said so far."""

    connection: socket.socket
    said: bytes = b""
    until: float = field(default_factory=lambda: time.monotonic() + _HANDSHAKE_S)

    def read(self) -> str | None:
        """Return the key and the options when they are complete, None before.

        No more than that is read: what follows is for whoever serves the client. Raises
        ``OSError`` for what is no client.
        """
        try:
            part = self.connection.recv(self._missing())
        except (BlockingIOError, InterruptedError):
            return None
        if not part:
            raise ConnectionResetError
        self.said += part
        if self._missing():
            return None
        return self.said[_HEAD.size :].decode(errors="replace")

    def _missing(self) -> int:
        """Return how many bytes are to come, as far as that is known."""
        if len(self.said) < _HEAD.size:
            return _HEAD.size - len(self.said)
        magic, length = _HEAD.unpack_from(self.said)
        if magic != _MAGIC or not 0 < length <= _MAX_BYTES:
            raise ConnectionAbortedError
        return int(_HEAD.size + length - len(self.said))


def welcome(connection: socket.socket) -> None:
    """Let a client that has presented a key go on. Raises ``OSError`` if it has left."""
    connection.sendall(welcome_message())


def welcome_message() -> bytes:
    """Return what ``welcome`` sends."""
    return _HEAD.pack(SUCCESS, len(_NAME)) + _NAME


def introduce(connection: socket.socket, role: str, key: str, options: str = "") -> None:
    """Present a key to a server without waiting for the answer. Raises ``OSError``."""
    presented = f"{role}:{key}{options}".encode()
    connection.sendall(_HEAD.pack(_MAGIC, len(presented)) + presented)


def present(connection: socket.socket, role: str, key: str) -> bool:
    """Present a key to a server; return whether it lets us go on. Raises ``OSError``.

    Parameters
    ----------
    connection
        Just opened.
    role, key
        What the server knows us by.
    """
    introduce(connection, role, key)
    (code,) = struct.unpack("<i", _received(connection, 4))
    if code != SUCCESS:
        return False
    (length,) = struct.unpack("<i", _received(connection, 4))
    _received(connection, length)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return True


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("connection reset")
        data += part
    return data
