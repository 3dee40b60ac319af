"""What tests share: the models and pipelines of ``tests/models``, and servers to connect to."""

from __future__ import annotations

import fcntl
import inspect
import linecache
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import tvm
from hypothesis import HealthCheck, settings

from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.replays.unit.unit_replay import UnitReplay, replay_unit
from relax_tapml.system import FORKS_ARE_SAFE
from relax_tapml.targets.fleet.local_fleet import LocalFleet
from relax_tapml.targets.fleet.tracker import TrackerKey, free_devices
from relax_tapml.targets.session.rpc_session import RPCSession


def stack(context: int = 1) -> list[inspect.FrameInfo]:
    """``inspect.stack`` with the line of each frame, and no search for its module.

    TVMScript calls it for every function. The search goes through all modules, for each of the
    many frames that pytest has, and took half of the time in which the tests were collected.
    """
    found, frame = [], sys._getframe(1)
    while frame is not None:
        file, line, lines = frame.f_code.co_filename, frame.f_lineno, None
        if context:
            linecache.checkcache(file)
            lines = [linecache.getline(file, line, frame.f_globals)]
        found.append(inspect.FrameInfo(frame, file, line, frame.f_code.co_name, lines, 0))
        frame = frame.f_back
    return found


inspect.stack = stack  # Before the models of the tests are imported.

MODELS = Path(__file__).parent / "models"
# Named on command lines as people name their own: MODULE:ATTR, with MODULE importable.
sys.path.insert(0, str(MODELS))
# For ``mutation``, which tests and scripts share.
sys.path.append(str(MODELS.parents[1] / "scripts"))
pytest_plugins = [
    "made_results",
    "paged_runs",
    "recorded_suite",
    "target_units",
    "tiny_trial",
    "written_suite",
]

# How long an example takes is not what any test is about. Examples may share a fixture's folder.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark of what only holds where work is done in forks of this process."""
    config.addinivalue_line("markers", "needs_forks: is skipped where forks are not safe")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs forks where these are not safe."""
    if not FORKS_ARE_SAFE:
        for item in items:
            if item.get_closest_marker("needs_forks"):
                item.add_marker(pytest.mark.skip(reason="forks are not safe on this system"))


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of ``tiny_model`` and ``broken_pipelines``, for processes of their own."""
    return MODELS


@pytest.fixture(scope="session", autouse=True)
def _processes_find_the_models() -> Iterator[None]:
    """And ``sitecustomize``. Not for workers of xdist, which start before any fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(MODELS), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that returns a folder which ``make(folder)`` has filled, to be read only.

    The first worker that asks for a name makes it; others wait for it.
    """
    here = tmp_path_factory.getbasetemp()
    # The folders of the workers lie in one.
    shared = here.parent if "PYTEST_XDIST_WORKER" in os.environ else here

    def made(name: str, make: Callable[[Path], Any]) -> Path:
        folder, complete = shared / name / "out", shared / name / "complete"
        folder.parent.mkdir(exist_ok=True)
        with (folder.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # Of a worker that has not ended it.
                make(folder)
                complete.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def _finished(made_once: Callable[..., Path]) -> Path:
    from tiny_model import model

    from relax_tapml import bring_up

    return made_once("tiny", lambda out: bring_up(model(), session="inline", out=out))


@pytest.fixture(scope="session")
def wrong_together(_finished: Path, made_once: Callable[..., Path]) -> Path:
    """The folder of a run of ``tiny_model`` with two kernels that are wrong together, read only.

    That of softmax leaves a mark in the process that the one of layer_norm minds; alone, both are
    right. The mark stays in a process, so every trial after a failure needs a fresh one.
    """
    import broken_pipelines as broken
    from tiny_runs import device_processes, run_again

    def make(out: Path) -> None:
        passes = [
            broken.breaks("softmax", broken.leaves_mark),
            broken.breaks("layer_norm", broken.minds_mark),
        ]
        before = device_processes()
        shutil.copytree(_finished, out)
        pipeline = tvm.transform.Sequential(passes)
        run_again(out, pipeline, session="process", strategy="bisect")
        assert device_processes() == before

    return made_once("wrong-together", make)


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A copy of the folder of a finished run of ``tiny_model``, whose target was right."""
    return shutil.copytree(_finished, tmp_path / "tiny")


@pytest.fixture(scope="session")
def rpc_port() -> Iterator[int]:
    """The port of a stock TVM RPC server."""
    yield from _serve(
        "import sys, tvm.rpc; server = tvm.rpc.Server('127.0.0.1', 19100, 19900, silent=True);"
        "print(server.port, flush=True); sys.stdin.read()"
    )


@pytest.fixture(scope="session")
def program_without_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server for this machine that has TVM's C++ runtime and no Python."""
    import server_without_python

    if not server_without_python.SUPPORTED:
        pytest.skip("the server is for Linux")
    return server_without_python.build(tmp_path_factory.mktemp("server"))


@pytest.fixture
def cutting_port(rpc_port: int, tmp_path: Path) -> Iterator[int]:
    """The port of the same server, which dies in the middle of an answer: see the script."""
    script = (MODELS / "cutting_proxy.py").read_text()
    yield from _serve(script, str(rpc_port), str(tmp_path / "cut"))


@pytest.fixture(scope="session")
def rpc_tracker() -> Iterator[int]:
    """The port of a stock TVM RPC tracker that has one server, of key ``here``."""
    yield from _serve(
        "import sys, tvm.rpc; from tvm.rpc.tracker import Tracker;"
        "tracker = Tracker('127.0.0.1', 19000, 19100, silent=True);"
        "server = tvm.rpc.Server('127.0.0.1', 19100, 19900, key='here', silent=True,"
        " tracker_addr=('127.0.0.1', tracker.port));"
        "print(tracker.port, flush=True); sys.stdin.read()"
    )


class Fleet:
    """A tracker, and servers that are started when a test first asks for their key."""

    def __init__(self, local: LocalFleet) -> None:
        self.local = local
        self.addresses: dict[str, list[str]] = {}

    def session(self, key: str) -> str:
        """Return the ``--session`` of a key of ``moody_kernels.FLEETS``, once all are free."""
        from moody_kernels import FLEETS

        if key not in self.addresses:
            self.addresses[key] = [
                self.local.add_server(key=key, environment=one) for one in FLEETS[key]
            ]
            self.wait(key)
        return f"tracker:127.0.0.1:{self.local.tracker[1]}:{key}"

    def wait(self, key: str) -> None:
        """Wait until the servers of a key are free."""
        tracker = TrackerKey(host="127.0.0.1", port=self.local.tracker[1], key=key)
        end = time.monotonic() + 1800
        while free_devices(tracker, timeout_s=600) < len(self.addresses[key]):
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture(scope="session")
def _fleet() -> Iterator[Fleet]:
    with closing(LocalFleet(0, key="none")) as local:
        yield Fleet(local)


@pytest.fixture
def fleet(_fleet: Fleet) -> Fleet:
    """The ``Fleet`` of all tests."""
    return _fleet


@pytest.fixture
def first_served(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that returns the first server of a key, which from then on gets work first.

    Calls on the others wait until it has had one.
    """

    def serve(key: str) -> str:
        fleet.session(key)
        fleet.wait(key)
        first = fleet.addresses[key][0]
        has_begun = threading.Event()
        call = RPCSession.call

        def ordered(session: Any, *args: Any) -> Any:
            if session._server.name.endswith(first):
                has_begun.set()
            else:
                assert has_begun.wait(1800)
            return call(session, *args)

        monkeypatch.setattr(RPCSession, "call", ordered)
        return first

    return serve


@pytest.fixture
def doom(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, set[str]], None]:
    """A function that has all servers of a key killed, once each is used and some units are done.

    Other units are not begun before.
    """

    def prepare(key: str, units: set[str]) -> None:
        fleet.session(key)
        left = set(units)
        unused = set(fleet.addresses[key])
        is_killed = threading.Event()

        def kill_if_due() -> None:
            if not left and not unused:
                for address in fleet.addresses[key]:
                    fleet.local.servers[address].kill()
                is_killed.set()

        def last(replayer: Replayer, unit: str, repeat: int) -> UnitReplay:
            if not is_killed.is_set():
                unused.discard(replayer.open())
            if unit not in units:
                kill_if_due()
                assert is_killed.wait(1800)
            detail = replay_unit(replayer, unit, repeat)
            left.discard(unit)
            kill_if_due()
            return detail

        monkeypatch.setattr("relax_tapml.replays.fleet.fleet_replay.replay_unit", last)
        monkeypatch.setattr(
            "relax_tapml.replays.fleet.fleet_replay._RETURN_S", 0.5
        )  # No server returns.

    return prepare


def _serve(script: str, *args: str) -> Iterator[int]:
    """Run a script that prints its port, until the fixture is over."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield int(process.stdout.readline())
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.communicate()
