"""Ctrl-C, SIGTERM and SIGHUP while kernels run that never return."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from relax_tapml.targets.fleet.tracker import TrackerKey, tracker_status

REPLAY = ["-c", "import sys; from relax_tapml.cli.main import main; sys.exit(main())", "replay"]
BUILD = ["-m", "relax_tapml.build", "tiny_model:model", "--out"]
SLOW = ["--device-pipeline", "broken_pipelines:all_loop"]
# Starting Python and TVM on a busy machine.
BEGUN_S = 1800
ENDED_S = 300


@pytest.fixture
def interrupted(models, tmp_path):
    """A function that sends a signal to a command once it has begun; returns its stderr."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(command, has_begun, number=signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, *command, *SLOW],
            env={
                **os.environ,
                "PYTHONPATH": str(models),
                "RELAX_TAPML_TEST_BEGUN": str(tmp_path / "begun"),
                "TMPDIR": str(scratch),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in the background has them ignore SIGINT.
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        )
        try:
            end = time.monotonic() + BEGUN_S
            while not has_begun():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
            time.sleep(1)
            children = psutil.Process(process.pid).children(recursive=True)
            assert children
            process.send_signal(number)
            assert process.wait(ENDED_S) == 128 + number
            assert psutil.wait_procs(children, timeout=ENDED_S)[1] == []
            assert not list(scratch.iterdir())
            return process.stderr.read()
        finally:
            process.kill()
            process.communicate()

    return run


@pytest.fixture
def two(fleet):
    """A session of two servers, and a function that returns whether both are in use."""
    session = fleet.session("two")
    fleet.wait("two")
    tracker = TrackerKey.parse(session)

    def is_busy():
        return tracker_status(tracker.host, tracker.port, timeout_s=60)["two"].busy == 2

    return session, is_busy


@pytest.mark.parametrize("others", [[], ["--on", "llvm=process"]], ids=["suite", "matrix"])
def test_a_fleet_is_free_again(others, interrupted, two, finished, fleet):
    """The command ends at once, as others do, and so does what runs on the servers."""
    session, is_busy = two
    where = ["--on", f"llvm={session}"] if others else ["--target", "llvm", "--session", session]
    output = interrupted([*REPLAY, str(finished), *where, *others], is_busy)
    assert output.endswith("error: interrupted\n")
    assert "Traceback" not in output
    fleet.wait("two")


@pytest.mark.parametrize(
    ("command", "number", "message"),
    [
        (REPLAY, signal.SIGINT, "interrupted"),
        (BUILD, signal.SIGINT, "interrupted"),
        (REPLAY, signal.SIGHUP, "hung up: the terminal was closed"),
        (BUILD, signal.SIGTERM, "terminated"),
    ],
    ids=["replay-INT", "build-INT", "replay-HUP", "build-TERM"],
)
def test_the_device_process_ends(command, number, message, interrupted, finished, tmp_path):
    """Although the main thread itself waits for the kernel."""
    rest = [str(finished), "--target", "llvm"] if command is REPLAY else [str(tmp_path / "new")]
    output = interrupted([*command, *rest], (tmp_path / "begun").is_dir, number)
    assert output.endswith(f"error: {message}\n")
    assert "Traceback" not in output
