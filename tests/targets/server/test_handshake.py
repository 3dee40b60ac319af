"""Who is let in, and who must not keep others waiting."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack, closing

import numpy as np
import pytest

from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.server.handshake import Entrance, introduce, present, welcome
from relax_tapml.targets.server.relay import Relay

LLVM = parse_target("llvm")
X = np.ones((4, 8), "float32")
# More than are looked at together, and who does not know a key.
STRANGERS = [b""] * 40 + [
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
def strangers():
    """A function that connects strangers to a port; they stay until the end of the test."""
    with ExitStack() as stack:

        def come(port):
            for said in STRANGERS:
                stranger = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                stranger.sendall(said)

        yield come


def test_the_client_is_let_in_whoever_came_before(listener, strangers):
    strangers(listener.getsockname()[1])
    with socket.create_connection(listener.getsockname()) as client, Entrance(listener) as entrance:
        introduce(client, "client", "key", " -timeout=3")
        met = entrance.meet("other:key", "client:key", wait_s=60)
        assert (met.key, met.options) == ("client:key", " -timeout=3")
        with met.connection:
            client.sendall(b"and on")
            assert met.connection.recv(100) == b"and on"


def test_a_key_may_come_in_pieces(listener):
    with socket.create_connection(listener.getsockname()) as client, Entrance(listener) as entrance:
        for byte in struct.pack("<ii", 0xFF271, 10) + b"client:key":
            assert entrance.meet("client:key", wait_s=0.01) is None
            client.sendall(bytes([byte]))
        with entrance.meet("client:key", wait_s=60).connection:
            pass


def test_a_wrong_key_is_refused(listener):
    def serve():
        with Entrance(listener) as entrance:
            welcome(entrance.meet("client:key", wait_s=60).connection)

    thread = threading.Thread(target=serve)
    thread.start()
    for key, is_right in (("no", False), ("key", True)):
        with socket.create_connection(listener.getsockname()) as client:
            assert present(client, "client", key) == is_right
    thread.join()


@pytest.fixture
def crowded(monkeypatch, strangers):
    """Strangers connect to every device process and every relay before its client does."""
    for server in (DeviceProcess, Relay):
        made = server.__init__

        def init(self, *args, _made=made, **options):
            _made(self, *args, **options)
            strangers(self.port)

        monkeypatch.setattr(server, "__init__", init)


def test_a_device_process_finds_its_client(crowded):
    with closing(open_session("process", LLVM)) as session:
        np.testing.assert_array_equal(session.download(session.upload(X)), X)


def test_a_server_of_a_fleet_finds_its_client(crowded, strangers, fleet):
    """As does the process that forwards to it."""
    spec = fleet.session("two")
    for address in fleet.addresses["two"]:
        strangers(int(address.rpartition(":")[2]))
    with closing(open_session(spec, LLVM)) as session:
        np.testing.assert_array_equal(session.download(session.upload(X)), X)
