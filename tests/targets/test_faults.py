"""A device that crashes, hangs, disappears or never was."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from transferred import check_session

from relax_tapml.errors import DeviceCrash, DeviceTimeout, DeviceUnavailable, UsageError
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.server.relay import Relay
from relax_tapml.targets.session.rpc_session import RPCSession

LLVM = parse_target("llvm")
X = np.ones((4, 8), "float32")


@pytest.fixture(params=["directly", "through a relay"])
def session_of_process(request):
    """Return a function that opens a session on a new device process, with its timeout."""
    servers = []

    def open_one(timeout_s: float):
        server = DeviceProcess()
        servers.append(server)
        if request.param == "through a relay":
            server = Relay(
                server.host, server.port, server.key, name="far", command="it", timeout_s=5
            )
        session = RPCSession(server, LLVM, timeout_s=60)
        session._timeout_s = timeout_s  # starting takes longer than the calls of these tests
        servers.append(session)
        return session

    yield open_one
    for server in reversed(servers):
        server.close()


def test_crash_is_reported_and_ends_the_session(session_of_process, units):
    """A crash names the signal and has what the process printed, where these can be known."""
    session = session_of_process(30)
    module, x = session.load(units.bytecode, units.kernels), session.upload(X)
    is_far = session._server.name == "far"
    ending = "closed the connection" if is_far else "was terminated by SIGSEGV"
    with pytest.raises(DeviceCrash, match=f"call of crashes: .* {ending}") as caught:
        session.call(module, "crashes", [x])
    assert ("Segfault" in caught.value.text) is not is_far
    assert "load_module" not in caught.value.text
    with pytest.raises(DeviceCrash, match=f"session is over: call of crashes: .* {ending}"):
        session.upload(X)
    session.close()
    session.close()


def test_hang_is_ended_in_time(session_of_process, units):
    """An endless kernel is a timeout, and ends after the given time."""
    session = session_of_process(1)
    module, x = session.load(units.bytecode, units.kernels), session.upload(X)
    start = time.monotonic()
    with pytest.raises(DeviceTimeout, match=r"call of hangs on .* did not end in 1 s"):
        session.call(module, "hangs", [x])
    assert time.monotonic() - start < 600
    with pytest.raises(DeviceTimeout, match="session is over"):
        session.upload(X)


def test_nothing_is_printed_and_nothing_stays(units, capfd):
    """The device's log stays out of the terminal; close removes process and folder."""
    session = open_session("process", LLVM)
    session.load(units.bytecode, units.kernels)
    pid, folder = session._server._child.pid, session._server.folder
    assert psutil.pid_exists(pid)
    assert folder.is_dir()
    session.close()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    assert capfd.readouterr() == ("", "")


def test_killed_parent_leaves_no_device_process(tmp_path, units):
    """The device process and its folder go when the parent is killed in an endless call."""
    (tmp_path / "bytecode").write_bytes(units.bytecode)
    script = (
        "import sys, numpy\n"
        "from pathlib import Path\n"
        "from relax_tapml.targets.open_session import open_session\n"
        "from relax_tapml.targets.platforms.parse_target import parse_target\n"
        "session = open_session('process', parse_target('llvm'))\n"
        "kernels = [Path(kernel) for kernel in sys.argv[1:]]\n"
        "module = session.load(Path('bytecode').read_bytes(), kernels)\n"
        "x = session.upload(numpy.ones((4, 8), 'float32'))\n"
        "print(session._server._child.pid, session._server.folder, flush=True)\n"
        "session.call(module, 'hangs', [x])\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, units.kernels)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    pid, folder = parent.stdout.readline().split()
    device = psutil.Process(int(pid))
    _wait_until(lambda: device.cpu_percent(0.2) > 30)  # it is in the kernel
    assert parent.poll() is None
    parent.kill()
    parent.communicate()
    try:
        _wait_until(lambda: not device.is_running())
        assert not Path(folder).exists()
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def test_a_relay_that_cannot_start_is_no_device(monkeypatch):
    """Its far side was reached: what failed is here."""
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        message = r"no device session on far: the process that forwards .*/nowhere/python"
        with pytest.raises(DeviceUnavailable, match=message):
            Relay(host, port, "key", name="far", command="it", timeout_s=5)


def test_device_process_removes_no_other_folder(tmp_path):
    """Where temporary files have to go elsewhere, that folder stays when the parent is gone."""
    own, shared = tmp_path / "own", tmp_path / "shared"
    own.mkdir()
    shared.mkdir()
    script = (
        "import sys, tempfile\n"
        "tempfile.tempdir = sys.argv.pop()\n"
        "from relax_tapml.targets.server import _device_process_main\n"
        "_device_process_main.main()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(fd), str(shared)],
            stdin=subprocess.PIPE,
            pass_fds=[fd],
            env={**os.environ, "TMPDIR": str(own)},
            start_new_session=True,
        )
        process.communicate(f"{own}\nkey\n".encode(), timeout=600)
    assert process.returncode == -signal.SIGKILL
    assert not own.exists()
    assert shared.exists()


def _wait_until(condition) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_interrupted_call_ends_the_session():
    """After Ctrl-C in the middle of a call the connection is not used again."""
    with closing(open_session("process", LLVM)) as session:
        with pytest.raises(KeyboardInterrupt), session._guard("call of main"):
            raise KeyboardInterrupt
        with pytest.raises(DeviceCrash, match="session is over: call of main was interrupted"):
            session.upload(X)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, for this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_process_that_fails_to_start_shows_its_log(tmp_path, monkeypatch, temporary, caplog):
    """What stops it is what the user gets to read; it is not started again."""
    (tmp_path / "ml_dtypes.py").write_text("raise RuntimeError('planted')")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"(?s)exited with code 1.*RuntimeError: planted"
    with pytest.raises(DeviceUnavailable, match=message), caplog.at_level(logging.WARNING):
        open_session("process", LLVM)
    assert not caplog.records
    assert not list(temporary.iterdir())


def test_missing_interpreter_is_unavailable(monkeypatch, temporary):
    """An interpreter that is not there is a device that is not there."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(DeviceUnavailable, match=r"cannot be started: .*/no/such/python"):
        open_session("process", LLVM)
    assert not list(temporary.iterdir())


def test_wrong_key_is_refused():
    """A client without the key does not get a device process, and does not stop it."""
    server = DeviceProcess()
    with closing(server):
        guesser = Relay(
            server.host, server.port, "guess", name="guesser", command="it", timeout_s=5
        )
        with pytest.raises(DeviceUnavailable, match=r"no device session on guesser: .*key"):
            RPCSession(guesser, LLVM, timeout_s=60)
        session = RPCSession(server, LLVM, timeout_s=60)
        assert session.download(session.upload(X)).shape == X.shape
        session.close()


@pytest.fixture
def silent_port():
    """The port of something that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port():
    """A port nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rpc:127.0.0.1:{}", "rpc:127.0.0.1:{}: no answer in 1 s"),
        ("tracker:127.0.0.1:{}:phone", "no free device of key 'phone' in 1 s"),
    ],
)
def test_what_does_not_answer_is_given_up(spec, message, silent_port):
    """It is unavailable after the given time."""
    with pytest.raises(DeviceUnavailable, match=message.format(silent_port)):
        open_session(spec.format(silent_port), LLVM, timeout_s=1)


@pytest.mark.parametrize("spec", ["rpc:127.0.0.1:{}", "tracker:127.0.0.1:{}:phone"])
def test_closed_port_names_address_and_fix(closed_port, spec):
    """The message has the address and what to start there."""
    with pytest.raises(DeviceUnavailable, match=rf"127.0.0.1:{closed_port}.*Start 'python -m tvm"):
        open_session(spec.format(closed_port), LLVM, timeout_s=5)


def test_server_without_the_device_is_unavailable():
    """A target whose device the server's machine lacks is refused before any work."""
    with pytest.raises(DeviceUnavailable, match="metal device on the device's machine"):
        open_session("process", parse_target("metal"))


@pytest.mark.parametrize("spec", ["", "cuda", "rpc:host", "tracker:host:1", "rpc:host:port"])
def test_unknown_spec_is_a_usage_error(spec):
    """The message lists every form."""
    with pytest.raises(UsageError, match="process, rpc:HOST:PORT or tracker:HOST:PORT:KEY"):
        open_session(spec, LLVM)


def test_timeout_must_be_positive():
    """A limit of no time at all cannot be kept."""
    with pytest.raises(UsageError, match="more than 0 seconds, got 0"):
        open_session("process", LLVM, timeout_s=0)


def test_tracker_lends_a_server(rpc_tracker):
    """A device is requested by key and used like any other."""
    check_session(f"tracker:127.0.0.1:{rpc_tracker}:here", LLVM)
    with pytest.raises(DeviceUnavailable, match=r"no free device of key 'elsewhere' in 0\.5 s"):
        open_session(f"tracker:127.0.0.1:{rpc_tracker}:elsewhere", LLVM, timeout_s=0.5)
