"""The watchdog that all calls with a deadline share."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from relax_tapml.processes import deadline as deadline_module
from relax_tapml.processes.deadline import Deadline

LONG_S = 20


def _never() -> None:
    pytest.fail("the block was left in time")


def test_expiry_ends_the_wait():
    """What the block waits for is ended once, when the time is over and not before."""
    calls, ended = [], threading.Event()

    def end() -> None:
        calls.append(time.monotonic())
        ended.set()

    start = time.monotonic()
    with Deadline(0.2, end) as deadline:
        assert ended.wait(LONG_S)
        time.sleep(0.2)
    assert deadline.is_expired
    assert len(calls) == 1
    assert calls[0] - start >= 0.2


def test_met_deadline_never_expires():
    """Nothing is called after the block, however it was left."""
    calls = []
    with Deadline(0.1, lambda: calls.append("left")) as left:
        pass
    with pytest.raises(KeyError), Deadline(0.1, lambda: calls.append("raised")) as raised:
        raise KeyError
    time.sleep(0.4)
    assert not left.is_expired
    assert not raised.is_expired
    assert not calls


def test_earlier_deadline_inside_a_later_one():
    """The inner one expires in its own time although the watch already waits for the outer."""
    ended = threading.Event()
    start = time.monotonic()
    with Deadline(LONG_S, _never) as outer:
        with Deadline(0.2, ended.set) as inner:
            assert ended.wait(LONG_S)
        assert inner.is_expired
        with Deadline(0.2, _never) as second:
            pass
    assert time.monotonic() - start < LONG_S / 2
    assert not outer.is_expired
    assert not second.is_expired


def test_slow_expiry_delays_no_other():
    """Another deadline expires in time while the first one's ``on_expiry`` still runs."""
    may_end, ended = threading.Event(), threading.Event()

    def be_slow() -> None:
        may_end.wait(LONG_S)

    with Deadline(0.1, be_slow) as slow, Deadline(0.3, ended.set) as other:
        assert ended.wait(LONG_S / 2)
    may_end.set()
    assert slow.is_expired
    assert other.is_expired


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_failing_expiry_does_not_stop_the_watch():
    """An exception in ``on_expiry`` is that deadline's alone."""

    def fail() -> None:
        raise RuntimeError("planted")

    ended = threading.Event()
    with Deadline(0.1, fail) as failing, Deadline(0.3, ended.set):
        assert ended.wait(LONG_S)
    assert failing.is_expired


def test_blocks_left_at_expiry_agree_with_their_calls():
    """Whether it expired is final when the block is left: many threads leave at that moment."""
    disagreeing = []

    def leave_many() -> None:
        for _ in range(200):
            called = threading.Event()
            seconds = random.uniform(0.0005, 0.003)
            with Deadline(seconds, called.set) as deadline:
                time.sleep(seconds)
            is_expired = deadline.is_expired
            if called.wait(LONG_S if is_expired else 0.005) is not is_expired:
                disagreeing.append(is_expired)

    threads = [threading.Thread(target=leave_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not disagreeing


def test_all_share_one_thread():
    """A guarded call starts no thread and, with equal timeouts, does not wake the one there is."""
    with Deadline(LONG_S, _never):
        before = threading.active_count()
        for _ in range(100):
            with Deadline(2 * LONG_S, _never):
                assert threading.active_count() == before


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_infinite_deadline_does_not_stop_the_watch():
    """More seconds than a lock can wait for are waited for in parts."""
    ended = threading.Event()
    with Deadline(float("inf"), _never):
        time.sleep(0.1)
        with Deadline(0.1, ended.set):
            assert ended.wait(LONG_S)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_while_the_lock_is_held():
    """A forked process gets a watch of its own, and leaves the parent's deadlines alone."""
    with Deadline(0.5, lambda: None) as parents:
        with _lock_held_elsewhere():
            pid = os.fork()
            if pid == 0:
                _watch_in_child(parents)
        assert _exit_code(pid) == 0
    assert parents.is_expired


@contextmanager
def _lock_held_elsewhere():
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with deadline_module._watch._changed:
            is_held.set()
            may_end.wait(LONG_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(LONG_S)
    yield
    may_end.set()
    thread.join()


def _watch_in_child(parents: Deadline) -> None:
    try:
        ended = threading.Event()
        with Deadline(1, ended.set) as own:
            ended.wait(LONG_S)
        parents.__exit__(None, None, None)
        os._exit(0 if own.is_expired and not parents.is_expired else 1)
    finally:
        os._exit(2)


def _exit_code(pid: int) -> int:
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return sys.maxsize


def _denied(process: psutil.Process) -> None:
    raise psutil.AccessDenied(process.pid)


@pytest.fixture
def process():
    """A function that runs a line of Python in a process, and returns its number."""
    running = []

    def run(code: str) -> int:
        command = [sys.executable, "-c", f"print(flush=True); import time\n{code}"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        running[-1].stdout.readline()
        return running[-1].pid

    yield run
    for one in running:
        one.kill()
        one.communicate()


@pytest.mark.parametrize("code", ["time.sleep(1000)", "while True: pass", "raise SystemExit"])
def test_a_process_that_sleeps_or_computes_or_is_gone_expires(process, code):
    """None of them is waited for without an end."""
    ended = threading.Event()
    with Deadline(0.5, ended.set, pid=process(code)) as deadline:
        assert ended.wait(LONG_S * 10)
    assert deadline.is_expired


@pytest.mark.parametrize("is_macos", [False, True])
def test_a_process_gets_the_time_that_a_busy_machine_keeps_from_it(process, monkeypatch, is_macos):
    """One that has a fifth of a core gets more than twice the time; never without an end.

    Also where only root is told what threads of another process have used.
    """
    if is_macos:
        monkeypatch.setattr(psutil.Process, "threads", _denied)
    fifth = (
        "while True:\n end = time.process_time() + 0.02\n"
        " while time.process_time() < end: pass\n time.sleep(0.08)"
    )
    ended, start = threading.Event(), time.monotonic()
    with Deadline(1, ended.set, pid=process(fifth)) as deadline:
        assert ended.wait(LONG_S * 10)
    assert time.monotonic() - start > 2
    assert "on a busy machine" in deadline.text
