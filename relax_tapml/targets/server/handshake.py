"""The handshake of TVM RPC, both halves, without importing TVM, which takes seconds.

The client sends a magic number, the length of its key and the key; options may follow the key
after a space. The server answers with a code and, if that is ``SUCCESS``, with the length of its
name and the name.
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
_MAX_KEY_BYTES = 256
_MAX_PENDING = 32
# Seconds and probes until a connection whose other end has vanished is lost, as in
# keyed_listener.cc. Not every system has all of them, and macOS has the first under the second
# name.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
}


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client that presented a right key and waits for an answer.

    Parameters
    ----------
    connection
        Without a time limit, but lost a minute after the client's machine is.
    key
        The key it presented, as ``ROLE:KEY``.
    options
        What followed the key, with the space before it; empty if nothing did.
    """

    connection: socket.socket
    key: str
    options: str


class KeyedListener:
    """Accept the first client that presents a right key; a context manager.

    All connections are read at once, so a silent one delays no other. A connection is closed if it
    has not presented a key after ten seconds; with more than ``32`` of them, the oldest is closed.
    Leaving the block closes those that are left.

    Parameters
    ----------
    listener
        A listening socket; it stays the caller's and stays open.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._pending: dict[socket.socket, _Pending] = {}  # the oldest first
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> KeyedListener:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in list(self._pending):
            self._drop(connection)
        self._selector.close()
        self._listener.setblocking(True)

    def accept(self, *keys: str, wait_s: float) -> Client | None:
        """Return the first client with one of some keys, None if there is none in ``wait_s``.

        Clients with another key are refused.

        Parameters
        ----------
        keys
            The right ones, each as ``ROLE:KEY``; the role of an RPC client is ``client``.
        wait_s
            How long to wait.
        """
        end = time.monotonic() + wait_s
        while True:
            self._drop_expired()
            left_s = end - time.monotonic()
            if left_s <= 0:
                return None
            for ready, _ in self._selector.select(min(left_s, self._next_expiry_s())):
                pending = self._pending.get(ready.data)
                if ready.fileobj is self._listener:
                    self._accept()
                elif pending is not None and (client := self._read(pending, keys)) is not None:
                    return client

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it was closed meanwhile
        connection.setblocking(False)
        self._pending[connection] = _Pending(connection)
        self._selector.register(connection, selectors.EVENT_READ, connection)
        if len(self._pending) > _MAX_PENDING:
            self._drop(next(iter(self._pending)))

    def _read(self, pending: _Pending, keys: Collection[str]) -> Client | None:
        """Read from a connection; return it as a client if that completes one of the keys."""
        connection = pending.connection
        try:
            text = pending.read()
        except OSError:
            self._drop(connection)
            return None
        if text is None:
            return None
        key, space, options = text.partition(" ")
        if key not in keys:
            with suppress(OSError):
                connection.send(struct.pack("<i", _MISMATCH))
            self._drop(connection)
            return None
        self._selector.unregister(connection)
        del self._pending[connection]
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return Client(connection=connection, key=key, options=space + options)

    def _next_expiry_s(self) -> float:
        """Return the seconds until the oldest connection has been silent for too long."""
        if not self._pending:
            return _HANDSHAKE_S
        oldest = next(iter(self._pending.values()))
        return max(oldest.expires_at - time.monotonic(), 0)

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for pending in list(self._pending.values()):
            if pending.expires_at <= now:
                self._drop(pending.connection)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._pending[connection]
        connection.close()


@dataclass
class _Pending:
    """A connection that has not presented its key yet, and what it has sent so far."""

    connection: socket.socket
    data: bytes = b""
    expires_at: float = field(default_factory=lambda: time.monotonic() + _HANDSHAKE_S)

    def read(self) -> str | None:
        """Return the key and the options once they are complete, None before.

        No more than that is read: what follows is for the server of the client. Raises
        ``OSError`` for what is no client.
        """
        try:
            part = self.connection.recv(self._missing())
        except (BlockingIOError, InterruptedError):
            return None
        if not part:
            raise ConnectionResetError
        self.data += part
        if self._missing():
            return None
        return self.data[_HEAD.size :].decode(errors="replace")

    def _missing(self) -> int:
        """Return how many bytes are to come, as far as that is known."""
        if len(self.data) < _HEAD.size:
            return _HEAD.size - len(self.data)
        magic, length = _HEAD.unpack_from(self.data)
        if magic != _MAGIC or not 0 < length <= _MAX_KEY_BYTES:
            raise ConnectionAbortedError
        return int(_HEAD.size + length - len(self.data))


def send_success(connection: socket.socket) -> None:
    """Send a client with a right key the server's answer. Raises ``OSError``."""
    connection.sendall(success_message())


def success_message() -> bytes:
    """Return what ``send_success`` sends."""
    return _HEAD.pack(SUCCESS, len(_NAME)) + _NAME


def send_key(connection: socket.socket, role: str, key: str, options: str = "") -> None:
    """Send a server the key, without waiting for the answer. Raises ``OSError``."""
    text = f"{role}:{key}{options}".encode()
    connection.sendall(_HEAD.pack(_MAGIC, len(text)) + text)


def authenticate(connection: socket.socket, role: str, key: str) -> bool:
    """Send a server the key and return whether it accepts that. Raises ``OSError``.

    Parameters
    ----------
    connection
        Just opened.
    role, key
        What the server expects.
    """
    send_key(connection, role, key)
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
