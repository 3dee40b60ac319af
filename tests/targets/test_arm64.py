"""ARM64 Linux: what is known without tools, and what an emulated device does."""

from __future__ import annotations

import platform as machine
import signal
import socket
import struct
import subprocess
import sys
import zipfile
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path

import broken_pipelines
import numpy as np
import psutil
import pytest
import tvm
from broken_pipelines import breaks
from tiny_model import UNITS, in_numpy, model
from transferred import ARRAYS, check_gone, check_round_trip, check_session, led_by

import relax_tapml
from relax_tapml import bring_up
from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.files.cache_folder import cache_folder
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.processes.child import Child
from relax_tapml.targets.arm64 import __main__ as arm64
from relax_tapml.targets.arm64 import server
from relax_tapml.targets.arm64.runtime import LIBRARIES, runtime_folder
from relax_tapml.targets.arm64.toolchain import COMPILER, emulator, system_root
from relax_tapml.targets.fleet.local_fleet import LocalFleet
from relax_tapml.targets.fleet.tracker import request_device, tracker_status
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms._arm64 import Arm64
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.server import device_process
from relax_tapml.targets.server.exit_report import request_exit_report
from relax_tapml.targets.server.handshake import authenticate, send_key

MISSING = [item.name for item in Arm64().requirements() if not item.found]
needs_emulator = pytest.mark.skipif(
    bool(MISSING), reason=f"missing for ARM64: {', '.join(MISSING)}; docs/platforms/arm64.md"
)
AARCH64 = 183  # EM_AARCH64 of elf.h
X = np.arange(6, dtype="float32")


@pytest.fixture
def other_machine(monkeypatch):
    """A machine of another kind, wherever this runs."""
    monkeypatch.setattr(machine, "machine", lambda: "x86_64")


@pytest.fixture
def no_tools(tmp_path, monkeypatch):
    """A machine on which nothing has been installed; its cache."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("triple", "is_owned"),
    [
        ("aarch64-linux-gnu", True),
        ("aarch64-unknown-linux-gnu", True),
        ("arm64-linux-gnu", True),
        ("x86_64-linux-gnu", False),
        ("aarch64-linux-android", False),
        ("arm64-apple-macosx", False),
        ("armv7-linux-gnu", False),
    ],
)
def test_triples_of_64_bit_arm_with_the_usual_c_library_are_owned(triple, is_owned, other_machine):
    """Not those of other processors, nor of systems with compilers of their own."""
    target = parse_target(f'{{"kind": "llvm", "mtriple": "{triple}"}}')
    assert isinstance(platform_of(target), Arm64) == is_owned


@pytest.mark.parametrize(("is_macos", "name"), [(False, "llvm"), (True, "arm64")])
def test_a_machine_of_the_kind_needs_no_platform(monkeypatch, is_macos, name):
    """There the target is the machine itself, and every session works; a Mac is of another kind."""
    monkeypatch.setattr(machine, "machine", lambda: "arm64" if is_macos else "aarch64")
    monkeypatch.setattr("relax_tapml.targets.platforms._arm64.IS_MACOS", is_macos)
    assert platform_of(parse_target("arm64")).name == name


def test_target_survives_its_own_text(other_machine):
    """What a manifest writes down is the same target again."""
    target = parse_target("arm64")
    again = parse_target(str(target))
    assert str(again) == str(target)
    assert isinstance(platform_of(again), Arm64)


def test_there_is_no_inline_session(other_machine):
    """This process cannot run ARM code."""
    with pytest.raises(UsageError, match="of target arm64: expected process, rpc:"):
        open_session("inline", parse_target("arm64"))


def test_the_server_to_start_is_ours(other_machine):
    """A board has no TVM for Python; a tracker's servers do."""
    message = r"Start 'run.sh --port 1', from .*relax_tapml.targets.arm64 DIR' writes, there"
    with pytest.raises(DeviceUnavailable, match=message):
        open_session("rpc:127.0.0.1:1", parse_target("arm64"))


def test_missing_compiler_is_named_before_anything_is_built(no_tools, tmp_path, other_machine):
    """With the command that installs it; requirements of the emulator are not listed."""
    with pytest.raises(
        DeviceUnavailable, match=r"apt-get install .* g\+\+-aarch64-linux"
    ) as caught:
        KernelLibrary(tmp_path / "kernels").build(tvm.IRModule(), parse_target("arm64"))
    assert "qemu" not in str(caught.value)


def test_missing_emulator_and_runtime_are_named(no_tools, monkeypatch, other_machine):
    """A session here names all that is missing, each with its command."""
    with pytest.raises(DeviceUnavailable) as caught:
        Arm64().start()
    message = str(caught.value)
    assert "apt-get install -y --no-install-recommends g++-aarch64-linux-gnu" in message
    assert "apt-get install -y --no-install-recommends qemu-user-static" in message
    assert f"--platform manylinux_2_28_aarch64 -d {no_tools}/arm64/wheels apache-tvm==" in message


def test_cache_folder_is_the_one_chosen(monkeypatch):
    """Ours, else the user's, else the default of the user's."""
    monkeypatch.setenv("RELAX_TAPML_CACHE", "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_folder()) == "/chosen"
    monkeypatch.delenv("RELAX_TAPML_CACHE")
    assert str(cache_folder()) == "/caches/relax_tapml"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache_folder()) == "/home/someone/.cache/relax_tapml"


def _write_wheels(cache, *libraries):
    wheels = cache / "arm64" / "wheels"
    wheels.mkdir(parents=True)
    for package, folder in (("apache-tvm", "tvm"), ("apache-tvm-ffi", "tvm_ffi")):
        name = f"{package.replace('-', '_')}-{version(package)}-py3-none-any_aarch64.whl"
        with zipfile.ZipFile(wheels / name, "w") as wheel:
            for library in libraries:
                if library.startswith("libtvm_ffi") == (folder == "tvm_ffi"):
                    wheel.writestr(f"{folder}/lib/{library}", library)


def test_only_the_runtime_is_taken_out_of_the_wheels(no_tools):
    """The compiler and CUDA stay; once taken out, the wheels may go."""
    _write_wheels(no_tools, *LIBRARIES, "libtvm_compiler.so", "libtvm_runtime_cuda.so")
    folder = runtime_folder()
    assert sorted(path.name for path in folder.iterdir()) == sorted(LIBRARIES)
    assert all((folder / name).read_text() == name for name in LIBRARIES)
    for wheel in (no_tools / "arm64" / "wheels").iterdir():
        wheel.unlink()
    assert runtime_folder() == folder


def test_wheels_without_a_library_are_refused(no_tools):
    """The message has the fix."""
    _write_wheels(no_tools, *LIBRARIES[1:])
    with pytest.raises(DeviceUnavailable, match=r"lack one of .*remove them and run: pip download"):
        runtime_folder()


def test_a_server_that_does_not_build_is_unavailable(no_tools, tmp_path):
    """The error has the compiler's output or, without a compiler, how to install it."""
    _write_wheels(no_tools, *LIBRARIES)
    with pytest.raises(DeviceUnavailable, match=r"is missing \(apt-get install .*aarch64"):
        server.build_server()
    compiler = tmp_path / COMPILER
    compiler.write_text("#!/bin/sh\necho planted >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(DeviceUnavailable, match="ARM64 server does not compile: planted"):
        server.build_server()


def test_a_folder_for_a_board_that_cannot_be_written_is_reported(
    no_tools, tmp_path, monkeypatch, capsys
):
    """Without tools the exit code is 3, with a wrong folder it is 2."""
    folder = tmp_path / "file"
    folder.touch()
    monkeypatch.setattr("sys.argv", ["arm64", str(folder)])
    assert arm64.main() == 3
    assert capsys.readouterr().err.startswith("error: TVM's runtime for ARM64 is missing (pip ")
    _write_wheels(no_tools, *LIBRARIES)
    assert arm64.main() == 3
    assert capsys.readouterr().err.startswith(f"error: {COMPILER} is missing (apt-get install ")
    compiler = tmp_path / COMPILER
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho > "$2"\n')
    compiler.chmod(0o755)
    assert arm64.main() == 2
    assert capsys.readouterr().err.startswith(f"error: {folder} cannot be written: ")
    monkeypatch.setattr("sys.argv", ["arm64", str(tmp_path / "board")])
    assert arm64.main() == 0
    assert (tmp_path / "board" / "run.sh").exists()
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(folder))
    assert arm64.main() == 3
    assert capsys.readouterr().err.startswith("error: ")


@pytest.fixture(scope="module")
def session():
    """A session on an emulated device, shared by tests that leave it alive."""
    with closing(open_session("process", parse_target("arm64"))) as opened:
        yield opened


@needs_emulator
@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip_is_exact(session, name):
    """Every bit comes back, by messages and through the file that both processes open."""
    check_round_trip(session, ARRAYS[name])


@needs_emulator
def test_a_right_target_gets_every_unit(finished):
    """All units pass alone and in context, and the bundle computes the same as the model."""
    result = bring_up(model(), target="arm64", out=finished, resume=True)
    assert (result.verdict, list(result.culprits)) == ("pass", [])
    assert all(unit["on_device"] for unit in result.document["units"])
    kernels = sorted((finished / "kernels").glob("*-arm64-*.so"))
    assert len(kernels) == len(UNITS)
    assert {struct.unpack_from("<H", kernel.read_bytes(), 18) for kernel in kernels} == {(AARCH64,)}
    with relax_tapml.load(finished / "bundle", session="process") as hybrid:
        sample = model().samples[0]
        expected = in_numpy(*sample.arrays, **model().params)
        for actual, oracle in zip(hybrid["main"](*sample.arrays), expected, strict=True):
            np.testing.assert_allclose(actual, oracle, rtol=1e-4, atol=1e-5)


FAULTS = {
    "matmul": ("scale", "mismatch"),
    "softmax": ("segfault", "crash"),
    "sum": ("spin", "timeout"),
}


def reasons_of(faults, out, session):
    """The reasons of broken kernels, by unit; all others are on the device."""
    pipelines = [breaks(unit, broken_pipelines.FAULTS[FAULTS[unit][0]]) for unit in faults]
    result = bring_up(
        model(),
        target="arm64",
        session=session,
        out=out,
        resume=True,
        repair=False,
        device_pipeline=tvm.transform.Sequential(pipelines),
        timeout_s=4,
    )
    assert list(result.culprits) == [unit for unit in UNITS if unit in faults]
    assert result.document["steps"][-1]["boundary"] == sorted(set(UNITS) - set(faults))
    message = {unit["name"]: unit for unit in result.document["units"]}
    for name, unit in message.items():
        assert unit["verdict"] == (FAULTS[name][1] if name in faults else "pass"), name
    return {unit: message[unit]["reason"] for unit in faults}


@pytest.fixture
def device_processes(monkeypatch):
    """The process ids of the devices that are started; each leads a session of its own."""
    started = []

    def start(*args, **options):
        child = Child(*args, **options)
        started.append(child.pid)
        return child

    monkeypatch.setattr(device_process, "Child", start)
    return started


@needs_emulator
def test_kernels_wrong_for_arm_alone_are_named(finished, device_processes):
    """However they are wrong; the run goes on with a fresh device, and no emulator is left."""
    message = reasons_of(["matmul", "softmax", "sum"], finished, "process")
    assert "differs by up to" in message["matmul"]
    assert "was terminated by SIGSEGV" in message["softmax"]
    assert "did not end in 4 s" in message["sum"]
    assert len(device_processes) >= 3
    # An emulator that outlived its parent has no parent, but is still in the session.
    check_gone(led_by(device_processes))


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The server as a board has it: a folder."""
    folder = tmp_path_factory.mktemp("board")
    subprocess.run([sys.executable, "-m", "relax_tapml.targets.arm64", folder], check=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        (*LIBRARIES, "run.sh", "server")
    )
    return folder


@contextmanager
def running(board, *options):
    """The server of a board, and the port it has taken."""
    with started(board, *options) as process:
        yield port_of(process)


def port_of(process):
    return int(process.stdout.readline().rpartition(":")[2])


@contextmanager
def started(board, *options):
    """The process of a board's server, whose output has its address and its events."""
    address = ["--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [emulator().found, "-L", system_root(), board / "server", *address, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@needs_emulator
def test_a_server_on_a_board_outlives_its_clients(finished, board):
    """A crash ends one client's process, and a call without an end is killed with its client."""
    with running(board) as port:
        message = reasons_of(["softmax", "sum"], finished, f"rpc:127.0.0.1:{port}")
    assert "closed the connection" in message["softmax"]
    assert "did not end in 4 s" in message["sum"]


@needs_emulator
def test_a_silent_connection_delays_no_client(board):
    with started(board) as process, ExitStack() as stack:
        port = port_of(process)
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        check_session(f"rpc:127.0.0.1:{port}", parse_target("arm64"))


@needs_emulator
@pytest.mark.parametrize(("left", "message"), [(0, "accept"), (1, "pipe")])
def test_a_board_that_is_short_of_something_serves_later(board, left, message):
    """Of open files here: it prints that a client was not served, and continues."""
    with started(board) as process:
        port = port_of(process)
        server = psutil.Process(process.pid)
        taken = {int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
        free = [number for number in range(len(taken) + 2) if number not in taken]
        limits = server.rlimit(psutil.RLIMIT_NOFILE)
        server.rlimit(psutil.RLIMIT_NOFILE, (free[left], limits[1]))
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            send_key(connection, "client", "")
            # A server that waits for a client has a file for it already.
            lines = iter(process.stdout.readline, "")
            expected = f"a client was not served: {message}: Too many open files\n"
            assert any(line == expected for line in lines)
            if message == "pipe":
                while connection.recv(100):  # it was let in before
                    pass
            server.rlimit(psutil.RLIMIT_NOFILE, limits)
        check_session(f"rpc:127.0.0.1:{port}", parse_target("arm64"))


@needs_emulator
@pytest.mark.parametrize("port", ["abc", "99999", "-1", "1e3", "99999999999"])
def test_a_port_that_is_none_is_refused(board, port):
    with started(board, "--port", port) as process:
        assert process.wait(600) == 2
        message = f"--port: expected a number from 0 to 65535, got {port}"
        assert message in process.stdout.read()


@needs_emulator
def test_a_board_registers_with_a_tracker(finished, board):
    """Without Python; also with one that comes back, and after one that was lent it in vain."""
    with closing(LocalFleet(0, key="board")) as fleet:
        fleet.wait(1800)
        host, port = fleet.tracker
        with running(board, "--tracker", f"{host}:{port}", "--key", "board") as served:
            message = reasons_of(["softmax", "sum"], finished, fleet.session)
            assert "closed the connection" in message["softmax"]
            assert "did not end in 4 s" in message["sum"]
            status = tracker_status(host, port, timeout_s=120)["board"]
            assert status.servers == (f"{host}:{served}",)
            request_device(host, port, "board", timeout_s=30)
            fleet.close()
            with closing(LocalFleet(0, key="board", port=port)) as other:
                other.wait(1800)
                open_session(fleet.session, parse_target("arm64"), timeout_s=30).close()


@pytest.fixture
def registered(board):
    """The tracker that a board is registered with: host, port and key."""
    with closing(LocalFleet(0, key="board")) as fleet:
        fleet.wait(1800)
        host, port = fleet.tracker
        with running(board, "--tracker", f"{host}:{port}", "--key", "board"):
            yield host, port, "board"


@needs_emulator
def test_others_who_connect_leave_a_board_to_whom_it_was_lent(registered):
    """It is offered anew after the client with the key, and then at once."""
    host, port, key = request_device(*registered, timeout_s=30)
    for _ in range(2):
        socket.create_connection((host, port)).close()
        assert request_exit_report(host, port, "board:0") is None
        with socket.create_connection((host, port), timeout=120) as connection:
            assert authenticate(connection, "client", key)
        # Whom it is lent to and does not come has 8 s.
        host, port, key = request_device(*registered, timeout_s=6)


@needs_emulator
def test_a_board_serves_clients_of_tvm(registered):
    """Their options, behind the key, have the limit of their session."""
    host, port, key = registered
    session = tvm.rpc.connect_tracker(host, port).request(key, session_timeout=60, max_retry=1)
    sent = tvm.runtime.tensor(X, session.cpu())
    np.testing.assert_array_equal(sent.numpy(), X)


@needs_emulator
def test_a_tracker_lends_emulators(finished):
    """Each session has its own, and how it ended is reported."""
    with closing(LocalFleet(1, key="board", platform="arm64")) as fleet:
        fleet.wait(1800)
        message = reasons_of(["softmax"], finished, fleet.session)
    assert "was terminated by SIGSEGV" in message["softmax"]


@needs_emulator
def test_killed_parent_leaves_no_emulator():
    """The emulator is gone with the process that started it."""
    script = (
        "import sys\n"
        "from relax_tapml.targets.open_session import open_session\n"
        "from relax_tapml.targets.platforms.parse_target import parse_target\n"
        "session = open_session('process', parse_target('arm64'))\n"
        "print(session._server._child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = psutil.Process(int(parent.stdout.readline()))
    processes = [child, *child.children()]
    assert any("qemu" in process.name() for process in processes)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    check_gone(processes)
