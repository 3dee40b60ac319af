"""Passing on a connection, and who ended it."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from relax_tapml.targets.server.forward import forward

RESET = struct.pack("ii", 1, 0)


def connected():
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


@pytest.fixture
def chain():
    """Client and server with a forwarder between them, and what it returns."""
    client, near = connected()
    far, server = connected()
    closed = []
    thread = threading.Thread(target=lambda: closed.append(forward(near, far)))
    thread.start()
    yield client, server, lambda: (thread.join(10), closed)[1]
    for end in (client, near, far, server):
        end.close()


def test_bytes_arrive_both_ways(chain):
    client, server, ended = chain
    sent = bytes(range(256)) * 5000
    threading.Thread(target=client.sendall, args=(sent,)).start()
    got = b""
    while len(got) < len(sent):
        got += server.recv(1 << 16)
    assert got == sent
    server.sendall(b"thanks")
    assert client.recv(100) == b"thanks"
    client.close()
    assert ended() == [False]


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("is_far", [False, True])
def test_the_side_that_closes_is_returned(chain, is_far, is_reset):
    """Also where the last bytes sent to it are not read."""
    client, server, ended = chain
    ending, other = (server, client) if is_far else (client, server)
    if is_reset:
        ending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        other.sendall(b"x" * 100_000)
    ending.close()
    assert ended() == [is_far]
