"""Connections from this machine of which we know whose they are."""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from relax_tapml.errors import DeviceUnavailable

OWN_USER = "own-user"
ANY_USER = "any-user"
"""Whom a server serves, as its process is told."""

_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_ESTABLISHED = "01"
_IS_IN_IPV6 = b"\0" * 10 + b"\xff" * 2


class OwnUserListener(socket.socket):
    """A listening socket that hangs up on everyone but processes of this process's user.

    Whose a connection is says the system's table of connections, nothing that the client says.
    Connections must come from this machine.

    Parameters
    ----------
    descriptor
        Of a socket that listens.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(fileno=descriptor)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection of our own user, and its address, as any socket does."""
        while True:
            connection, address = super().accept()
            if is_own(connection):
                return connection, address
            connection.close()


def listener_for(served: str, descriptor: int) -> socket.socket:
    """Return a socket that listens, to accept connections of ``OWN_USER`` or ``ANY_USER``."""
    if served == ANY_USER:
        return socket.socket(fileno=descriptor)
    return OwnUserListener(descriptor)


def is_own(connection: socket.socket) -> bool:
    """Whether a process of our user, on this machine, is at the other end of a connection."""
    try:
        here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    except OSError:  # it has left
        return False
    return _owner(there, here) == os.geteuid()


def check_users_are_visible() -> None:
    """Raise ``DeviceUnavailable`` where the system does not say whose a connection is."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = listener.accept()
        with connection:
            if is_own(connection):
                return
    raise DeviceUnavailable(
        "this system does not tell which user a connection belongs to, so every user of this "
        "machine could run code as you. Give --any-user if they may"
    )


def _owner(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Return the user whose socket has two addresses; None if no open socket on this machine has.

    One that is closed has no owner any more, and the table says 0 for it.
    """
    ends = [(_address(*local, is_wide), _address(*remote, is_wide)) for is_wide in (False, True)]
    for table, (here, there) in zip(_TABLES, ends, strict=True):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local_end, remote_end, state, *_, user = line.split(maxsplit=8)[:8]
            if (local_end, remote_end, state) == (here, there, _ESTABLISHED):
                return int(user)
    return None


def _address(host: str, port: int, is_wide: bool) -> str:
    """Return an address as the table of IPv4, or the wider one of IPv6, has it."""
    address = ip_address(host.partition("%")[0])
    data = (getattr(address, "ipv4_mapped", None) or address).packed
    if is_wide and len(data) == 4:
        data = _IS_IN_IPV6 + data
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    return "".join(f"{int.from_bytes(w, sys.byteorder):08X}" for w in words) + f":{port:04X}"
