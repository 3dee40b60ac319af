"""Restrict a server to connections of the user that runs it."""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import psutil

from relax_tapml.errors import DeviceUnavailable

OWN_USER = "own-user"
ANY_USER = "any-user"
"""Which users a server serves, as an argument of its process."""

_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_ESTABLISHED = "01"
_IS_IN_IPV6 = b"\0" * 10 + b"\xff" * 2


class OwnUserListener(socket.socket):
    """A listening socket that closes connections of users other than the one of this process.

    The owner of a connection is read from the system's table of connections or, where there is
    none (macOS), from those of this user's processes; nothing that a client sends counts.
    Connections must come from this machine.

    Parameters
    ----------
    descriptor
        Of a socket that listens.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(fileno=descriptor)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection of this user, and its address."""
        while True:
            connection, address = super().accept()
            if is_own(connection):
                return connection, address
            connection.close()


def listener_for(served: str, descriptor: int) -> socket.socket:
    """Return a listening socket that accepts connections of ``OWN_USER`` or ``ANY_USER``."""
    if served == ANY_USER:
        return socket.socket(fileno=descriptor)
    return OwnUserListener(descriptor)


def is_own(connection: socket.socket) -> bool:
    """Whether a process of this user, on this machine, has the other end of a connection."""
    try:
        here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    except OSError:  # it was closed
        return False
    try:
        return _owner(there, here) == os.geteuid()
    except FileNotFoundError:
        return _has_own_process(there, here)


def check_users_are_visible() -> None:
    """Raise ``DeviceUnavailable`` where the system does not list the owners of connections."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = listener.accept()
        with connection:
            if is_own(connection):
                return
    raise DeviceUnavailable(
        "this system does not list the owners of connections, so every user of this machine could "
        "run code as you. Pass --any-user to allow that"
    )


def _has_own_process(local: tuple[str, int], remote: tuple[str, int]) -> bool:
    """Whether a process of this user has an open socket with two addresses."""
    ends = (_plain(*local), _plain(*remote))
    for process in psutil.process_iter():
        try:
            if process.uids().effective != os.geteuid():
                continue
            found = process.net_connections(kind="tcp")
        except psutil.Error:  # It has just ended, or may not be looked at.
            continue
        for one in found:
            if one.status == psutil.CONN_ESTABLISHED and ends == (
                _plain(*one.laddr[:2]),
                _plain(*one.raddr[:2]),
            ):
                return True
    return False


def _plain(host: str, port: int) -> tuple[IPv4Address | IPv6Address, int]:
    """Return an address in one form, whether a socket is of IPv4 or a wider one of IPv6."""
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address, port


def _owner(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Return the user of the socket with two addresses; None if no open socket here has them.

    A closed socket has no owner any more; its entry in the table has user 0. Raises
    ``FileNotFoundError`` where the system has no table of IPv4.
    """
    ends = [(_address(*local, is_wide), _address(*remote, is_wide)) for is_wide in (False, True)]
    for table, (here, there) in zip(_TABLES, ends, strict=True):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            if table == _TABLES[0]:
                raise
            continue  # a system without IPv6
        for line in lines:
            _, local_end, remote_end, state, *_, user = line.split(maxsplit=8)[:8]
            if (local_end, remote_end, state) == (here, there, _ESTABLISHED):
                return int(user)
    return None


def _address(host: str, port: int, is_wide: bool) -> str:
    """Return an address as in the table of IPv4, or in the wider one of IPv6."""
    data = _plain(host, port)[0].packed
    if is_wide and len(data) == 4:
        data = _IS_IN_IPV6 + data
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    return "".join(f"{int.from_bytes(w, sys.byteorder):08X}" for w in words) + f":{port:04X}"
