"""Which users a local fleet serves."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.fleet import _own_user
from relax_tapml.targets.fleet.local_fleet import LocalFleet

CLIENT = """
import encodings.idna, os, socket, sys  # what a connection imports, while we may read it
os.setuid(int(sys.argv[1]))
with socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=100) as client:
    try:
        client.sendall(bytes.fromhex(sys.argv[3]))
        print(client.recv(100).hex())
    except ConnectionError:
        print()
"""
NOBODY = 65534
TRACKER_MAGIC = struct.pack("<i", 0x2F271).hex()
WRONG_KEY = (struct.pack("<ii", 0xFF271, 8) + b"client:x").hex()
REFUSED = struct.pack("<i", 0xFF271 + 2).hex()

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may be another user"
)


def answer(user, port, data):
    """The reply to data that a process of a user sends; empty if the connection is closed."""
    command = [sys.executable, "-c", CLIENT, str(user), str(port), data]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def port_of(address):
    return int(address.rpartition(":")[2])


@as_root
def test_a_fleet_serves_its_own_user(fleet):
    """The tracker and the servers, for clients that speak the protocol."""
    fleet.session("two")
    for user, tracker, server in ((0, TRACKER_MAGIC, REFUSED), (NOBODY, "", "")):
        assert answer(user, fleet.local.tracker[1], TRACKER_MAGIC) == tracker
        assert answer(user, port_of(fleet.addresses["two"][0]), WRONG_KEY) == server


@as_root
def test_a_fleet_may_be_shared():
    with closing(LocalFleet(1, key="k", is_shared=True)) as shared:
        shared.wait(240)
        assert answer(NOBODY, shared.tracker[1], TRACKER_MAGIC) == TRACKER_MAGIC
        assert answer(NOBODY, port_of(*shared.servers), WRONG_KEY) == REFUSED
        assert shared.reach.startswith("Every user of this machine can run code")


@pytest.fixture(params=["table", "processes"])
def _way(request, monkeypatch):
    """Of finding an owner: that of Linux, and that of macOS."""
    if request.param == "processes":
        monkeypatch.setattr(_own_user, "_TABLES", (Path("/nowhere"), Path("/nowhere")))
    elif not _own_user._TABLES[0].exists():
        pytest.skip("this system has no table of connections")


@as_root
@pytest.mark.usefixtures("_way")
def test_connections_of_others_are_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = _own_user.OwnUserListener(os.dup(listener.fileno()))
        served = threading.Thread(target=lambda: own.accept()[0].send(b"served"))
        served.start()
        port = listener.getsockname()[1]
        assert answer(NOBODY, port, "00") == ""
        assert bytes.fromhex(answer(0, port, "00")) == b"served"
        served.join()
        own.close()


@pytest.mark.usefixtures("_way")
def test_a_connection_that_is_closed_is_nobodys():
    """The system does not list its owner any more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        with listener.accept()[0] as served:
            assert _own_user.is_own(served)
            client.close()
            assert not _own_user.is_own(served)


@pytest.mark.usefixtures("_way")
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")
@pytest.mark.parametrize(("here", "there"), [("::1", "::1"), ("::", "127.0.0.1")])
def test_addresses_of_ipv6_are_known(here, there):
    is_wide = here == "::"
    with (
        socket.create_server((here, 0), family=socket.AF_INET6, dualstack_ipv6=is_wide) as listener,
        socket.create_connection((there, listener.getsockname()[1])),
        listener.accept()[0] as served,
    ):
        assert _own_user.is_own(served)


def test_a_system_that_does_not_tell_users_apart_is_refused(monkeypatch):
    monkeypatch.setattr(_own_user, "_TABLES", (Path("/nowhere"), Path("/nowhere")))
    monkeypatch.setattr(_own_user.psutil, "process_iter", list)
    with pytest.raises(DeviceUnavailable, match="--any-user"):
        LocalFleet(0, key="k")
    LocalFleet(0, key="k", is_shared=True).close()
