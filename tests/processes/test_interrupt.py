"""Signals that end a command, wherever they come."""

from __future__ import annotations

import os
import signal
from argparse import Namespace
from contextlib import suppress

import pytest
import tvm

import relax_tapml._compat  # noqa: F401 - what is about TVM
from relax_tapml.cli.exit import guarded
from relax_tapml.processes.fork import forked
from relax_tapml.processes.interrupt import Ending, OnInterrupt, ended_by_signals

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(*numbers):
    """Send signals to this process, and let Python see them one by one."""
    for number in numbers:
        os.kill(os.getpid(), number)
        for _ in range(1000):
            pass


@pytest.fixture(autouse=True)
def handlers():
    """The usual handlers, also where the tests run with signals ignored; they are left in place."""
    before = [signal.getsignal(number) for number in NUMBERS]
    usual = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    for number, handler in zip(NUMBERS, usual, strict=True):
        signal.signal(number, handler)
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == usual
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_command_ends_with_the_shells_code(number, capsys):
    cleaned = []

    def command(_):
        try:
            send(number)
        finally:
            cleaned.append(True)

    assert guarded(command)(Namespace()) == 128 + number
    assert cleaned == [True]
    assert "bug" not in capsys.readouterr().err


@pytest.mark.parametrize("number", NUMBERS)
def test_one_that_comes_in_a_pass_is_no_fault_of_it(number, capsys):
    """The code that runs a pass catches its errors and continues."""

    @tvm.transform.module_pass(opt_level=0)
    def interrupted(module, context):
        send(number)
        return module

    def command(_):
        with suppress(Exception):
            interrupted(tvm.IRModule())
        return 1

    assert guarded(command)(Namespace()) == 128 + number
    assert "bug" not in capsys.readouterr().err


def test_the_second_of_two_does_not_end_the_cleaning_up():
    cleaned = []

    def command(_):
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGHUP, signal.SIGTERM)
            cleaned.append(True)

    assert guarded(command)(Namespace()) == 128 + signal.SIGTERM
    assert cleaned == [True]


def test_a_signal_that_is_ignored_stays_so():
    """``nohup`` ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guarded(lambda _: send(signal.SIGHUP) or 0)(Namespace()) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_waited_for_is_ended_first(number):
    """In the block the signal raises nothing."""
    done = []
    ending = Ending()

    def wait():
        with OnInterrupt(lambda: done.append("ended")):
            send(number)
            done.append("left")
        done.append("never")

    with ended_by_signals(ending), pytest.raises(KeyboardInterrupt):
        wait()
    assert done == ["ended", "left"]
    assert ending.number == number


@pytest.mark.needs_forks
def test_a_fork_leaves_them_to_its_parent():
    """A signal that all processes of a group get is no crash of a unit."""

    def work(here):
        with suppress(KeyboardInterrupt):
            send(*NUMBERS)
            here.send("done")

    with ended_by_signals(Ending()):
        assert [message.document for message in forked(work)] == ["done"]
