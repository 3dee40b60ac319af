"""Which clients are accepted, and that the others delay nobody."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack

import numpy as np
import pytest
from transferred import check_session

from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.server.handshake import KeyedListener, authenticate, send_key, send_success
from relax_tapml.targets.server.relay import Relay

LLVM = parse_target("llvm")
X = np.ones((4, 8), "float32")
# More connections than are kept at once, and what is no client or has a wrong key.
OTHERS = [b""] * 40 + [
    b"GET / HTTP/1.1\r\n\r\n",
    struct.pack("<ii", 0xFF271, 2**31 - 1),
    struct.pack("<ii", 0xFF271, -5),
    struct.pack("<ii", 0xFF271, 10) + b"client:xxx",
    b"\x71",
]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def others():
    """A function that makes other connections to a port; they stay until the end of the test."""
    with ExitStack() as stack:

        def connect(port):
            for data in OTHERS:
                other = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                other.sendall(data)

        yield connect


def test_the_client_is_accepted_whatever_connected_before(listener, others):
    others(listener.getsockname()[1])
    with (
        socket.create_connection(listener.getsockname()) as client,
        KeyedListener(listener) as keyed,
    ):
        send_key(client, "client", "key", " -timeout=3")
        accepted = keyed.accept("other:key", "client:key", wait_s=60)
        assert (accepted.key, accepted.options) == ("client:key", " -timeout=3")
        with accepted.connection:
            client.sendall(b"and on")
            assert accepted.connection.recv(100) == b"and on"


def test_a_key_may_come_in_pieces(listener):
    with (
        socket.create_connection(listener.getsockname()) as client,
        KeyedListener(listener) as keyed,
    ):
        for byte in struct.pack("<ii", 0xFF271, 10) + b"client:key":
            assert keyed.accept("client:key", wait_s=0.01) is None
            client.sendall(bytes([byte]))
        with keyed.accept("client:key", wait_s=60).connection:
            pass


def test_a_wrong_key_is_refused(listener):
    def serve():
        with KeyedListener(listener) as keyed:
            send_success(keyed.accept("client:key", wait_s=60).connection)

    thread = threading.Thread(target=serve)
    thread.start()
    for key, is_right in (("no", False), ("key", True)):
        with socket.create_connection(listener.getsockname()) as client:
            assert authenticate(client, "client", key) == is_right
    thread.join()


@pytest.fixture
def crowded(monkeypatch, others):
    """Other connections are made to every device process and every relay before its client does."""
    for server in (DeviceProcess, Relay):
        made = server.__init__

        def init(self, *args, _made=made, **options):
            _made(self, *args, **options)
            others(self.port)

        monkeypatch.setattr(server, "__init__", init)


def test_a_device_process_finds_its_client(crowded):
    check_session("process", LLVM)


def test_a_server_of_a_fleet_finds_its_client(crowded, others, fleet):
    """As does the process that forwards to it."""
    spec = fleet.session("two")
    for address in fleet.addresses["two"]:
        others(int(address.rpartition(":")[2]))
    check_session(spec, LLVM)
