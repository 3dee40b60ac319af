"""A local tracker and servers, and requests to a tracker."""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from contextlib import closing

import numpy as np
import psutil
import pytest
from tvm.rpc import base

from relax_tapml.errors import DeviceCrash, DeviceTimeout, DeviceUnavailable, UsageError
from relax_tapml.targets.fleet._fleet_server import _Server
from relax_tapml.targets.fleet.local_fleet import LocalFleet
from relax_tapml.targets.fleet.tracker import TrackerKey, tracker_status
from relax_tapml.targets.open_session import open_device, open_session
from relax_tapml.targets.platforms._local import Local
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.platform import Platform
from relax_tapml.targets.server.exit_report import ExitReport
from relax_tapml.targets.server.handshake import KeyedListener, send_key, send_success

LLVM = parse_target("llvm")
X = np.ones((4, 8), "float32")


@pytest.fixture
def session(fleet):
    """The session of two servers, both of which are free."""
    session = fleet.session("two")
    fleet.wait("two")
    return session


@pytest.mark.parametrize("spec", ["process", "rpc:host:1", "tracker:host:1", "tracker:host:port:k"])
def test_what_is_no_tracker_is_none(spec):
    assert TrackerKey.parse(spec) is None


def status(session):
    tracker = TrackerKey.parse(session)
    return tracker_status(tracker.host, tracker.port, timeout_s=120)[tracker.key]


def test_a_tracker_lists_its_devices(fleet, session):
    """Servers by address, and how many of them are in use."""
    addresses = tuple(sorted(fleet.addresses["two"]))
    found = status(session)
    assert (found.servers, found.free, found.busy) == (addresses, 2, 0)
    with closing(open_session(session, LLVM)) as opened:
        np.testing.assert_array_equal(opened.download(opened.upload(X)), X)
        found = status(session)
        assert (found.servers, found.free, found.busy) == (addresses, 1, 1)
    fleet.wait("two")


def test_none_free_lists_what_is_registered(fleet, session):
    """All in use, another key only, or nothing at all."""
    with closing(open_session(session, LLVM)), closing(open_session(session, LLVM)):
        message = "no free device of key 'two' in 0.2 s: 2 of that key are registered, none is free"
        with pytest.raises(DeviceUnavailable, match=message) as caught:
            open_session(session, LLVM, timeout_s=0.2)
    assert all(address in str(caught.value) for address in fleet.addresses["two"])
    message = r"no server of that key is registered; the keys there are .*'two' \(2\)"
    with pytest.raises(DeviceUnavailable, match=message):
        open_session(session.replace("two", "phone"), LLVM, timeout_s=0.2)
    with closing(LocalFleet(0, key="board")) as empty:
        empty.wait()
        with pytest.raises(DeviceUnavailable, match="no server is registered there"):
            open_session(empty.session, LLVM, timeout_s=2)


@pytest.mark.parametrize(
    ("function", "fault", "timeout_s", "message"),
    [
        ("crashes", DeviceCrash, 60, "was terminated by SIGSEGV"),
        ("hangs", DeviceTimeout, 2, "did not end in 2 s"),
    ],
)
def test_a_server_outlives_what_runs_on_it(
    fleet, session, units, function, fault, timeout_s, message
):
    """After a crash, which it reports, and a kernel that never returns, it is free again."""
    with closing(open_session(session, LLVM)) as opened:
        module, x = opened.load(units.bytecode, units.kernels), opened.upload(X)
        opened._timeout_s = timeout_s
        with pytest.raises(fault, match=f"call of {function}.*two at 127.0.0.1:.* {message}"):
            opened.call(module, function, [x])
    fleet.wait("two")


def test_a_device_has_the_address_of_its_session(fleet, session):
    """One that is to be avoided is kept from being lent again, and given back at the end."""
    device = open_device(session, LLVM)
    assert device.name == ""
    device.session.upload(X)
    first = device.name
    assert not device.is_gone()
    device.close()
    (other,) = set(fleet.addresses["two"]) - {first}
    device = open_device(session, LLVM, avoided=[first])
    for _ in range(2):
        device.session.upload(X)
        assert device.name == other
        device.close()
    fleet.wait("two")
    assert open_device("process", LLVM).name == "process"


def test_nothing_is_left_of_a_fleet(units, tmp_path, monkeypatch):
    """Servers end although a client is in the middle of something, and so do their folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    local = LocalFleet(1, key="board")
    local.wait(240)
    assert len(list(tmp_path.iterdir())) == 1
    session = open_session(local.session, LLVM)
    session.load(units.bytecode, units.kernels)
    processes = [psutil.Process(child.pid) for child in local._children]
    processes += [child for p in processes for child in p.children(recursive=True)]
    assert len(processes) >= 3
    local.close()
    assert psutil.wait_procs(processes, timeout=300)[1] == []
    assert not list(tmp_path.iterdir())
    with pytest.raises(DeviceCrash):
        session.upload(X)
    session.close()


def test_a_port_that_is_taken_is_reported(fleet):
    _, port = fleet.local.tracker
    with pytest.raises(UsageError, match=f"--port {port}: .*; 0 chooses a free one"):
        LocalFleet(1, key="board", port=port)


def test_servers_join_a_tracker_that_runs(fleet):
    """Devices of another kind, or of another machine."""
    with closing(LocalFleet(1, key="joined", tracker=fleet.local.tracker)) as joined:
        joined.wait(240)
        (address,) = joined.servers
        assert status(joined.session).servers == (address,)
        assert joined.session == fleet.session("two").replace("two", "joined")


def test_servers_that_a_tracker_cannot_lend_are_refused():
    """A client of a tracker elsewhere would look for 127.0.0.1 on its own machine."""
    with pytest.raises(UsageError, match=r"cannot reach servers on 127\.0\.0\.1; .*--host"):
        LocalFleet(1, key="board", tracker=("192.0.2.1", 9190))


def test_a_server_may_have_the_port_of_one_that_is_gone(monkeypatch):
    """Whichever port is free is taken, and so it comes back."""
    with closing(LocalFleet(1, key="board")) as local:
        local.wait(240)
        (address,) = local.servers
        local.servers[address].close()
        port = int(address.rpartition(":")[2])
        monkeypatch.setattr(
            "relax_tapml.targets.fleet.local_fleet._listener",
            lambda host, _: socket.create_server((host, port)),
        )
        assert local.add_server() == address
        local.wait(240)
        open_session(local.session, LLVM).close()


def test_no_server_waits_while_a_client_prepares(session, monkeypatch):
    """What takes minutes here is done before a device is requested."""
    seen = []
    monkeypatch.setattr(Local, "prepare_client", lambda _: seen.append(status(session).free))
    open_session(session, LLVM).close()
    assert seen == [2]


def test_clients_learn_where_a_server_listens():
    """Which need not be where the tracker sees it."""
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        pytest.skip("this machine has no second address of its own")  # as macOS
    with closing(LocalFleet(1, key="board", host="127.0.0.2")) as local:
        local.wait(240)
        open_session(local.session, LLVM).close()


def test_a_server_that_ends_at_once_is_an_error_with_the_cause():
    with closing(LocalFleet(1, key="board", platform="none")) as local:
        message = r"(?s)exited with code 1: .*target none"
        with pytest.raises(DeviceUnavailable, match=message) as caught:
            local.wait(240)
        assert "did not come up" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (b"\x00\x00\x00\x00", "not a TVM RPC tracker"),
        (struct.pack("<ii", base.RPC_TRACKER_MAGIC, 3) + b"???", "its answer cannot be read"),
    ],
)
def test_a_server_survives_what_is_no_tracker(answers, message):
    """What it raises is what it tries again after."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
        theirs.sendall(answers)
        with pytest.raises(OSError, match=message):
            _Server(listener, "board", Local()).serve(ours)


def test_a_client_that_vanishes_is_noticed():
    """Its machine may lose power, which closes no connection: accepted connections are probed."""
    options = ("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        KeyedListener(listener) as keyed,
    ):
        send_key(client, "client", "key")
        with keyed.accept("client:key", wait_s=60).connection as served:
            assert served.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            for option, value in options:
                if hasattr(socket, option):
                    assert served.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value


class Leaving(Platform):
    """Its server accepts a client and closes the connection, without a report."""

    host = "127.0.0.1"
    key = "key"

    def owns(self, target):
        return False

    def start(self):
        listener = socket.create_server((self.host, 0))
        self.port = listener.getsockname()[1]

        def serve():
            with KeyedListener(listener) as keyed:
                client = keyed.accept(f"client:{self.key}", wait_s=60)
            send_success(client.connection)
            client.connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return self

    def exit_report(self):
        return ExitReport(cause=None, log="its log")

    def close(self):
        pass


def test_a_server_that_hangs_up_without_a_cause_is_reported():
    """That it did, and not how the process ended that forwards to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
        with client:
            message = _Server(listener, "key", Leaving())._run(served, ())
    assert message == ExitReport(cause="closed the connection", log="its log")
