# ruff: noqa: N812 - TVMScript
"""Work in a fork hands back what it found, and may die."""

import ctypes
import os
import subprocess
import sys
import threading
import time

import ml_dtypes
import numpy as np
import psutil
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import tirx as T

from relax_tapml.errors import SourceError, UsageError
from relax_tapml.processes.fork import ForkFailed, ForkGroup, can_fork, forked
from relax_tapml.system import FORKS_ARE_SAFE


@pytest.mark.needs_forks
def test_documents_and_arrays_come_back_as_they_are():
    """In order, every dtype and shape, scalars and empty ones included."""
    arrays = [
        np.arange(6.0).reshape(2, 3).T,
        np.array(3, "int8"),
        np.ones(2, ml_dtypes.bfloat16),
        np.zeros((0, 4), "bool"),
    ]

    def work(fork):
        fork.send({"a": 1})
        fork.send(None, arrays)

    first, second = forked(work)
    assert (first.document, first.arrays) == ({"a": 1}, ())
    for got, wanted in zip(second.arrays, arrays, strict=True):
        assert (got.dtype, got.shape, got.tobytes()) == (
            wanted.dtype,
            wanted.shape,
            wanted.tobytes(),
        )


@pytest.mark.needs_forks
def test_a_death_tells_its_cause_and_the_last_note():
    """What was sent before has come; what was printed is part of the text."""
    seen = []

    def work(fork):
        fork.note("long before")
        fork.send(1)
        fork.note("here")
        os.write(2, b"malloc(): corrupted\n")
        os.abort()

    with pytest.raises(ForkFailed) as caught:
        seen.extend(message.document for message in forked(work))
    assert (seen, caught.value.at) == ([1], "here")
    assert caught.value.text == "was terminated by SIGABRT (malloc(): corrupted)"


@pytest.mark.parametrize("error", [SourceError("a"), UsageError("b"), ValueError("c")], ids=repr)
@pytest.mark.needs_forks
def test_an_exception_keeps_its_class(error):
    """Also one of the package; others are a RuntimeError that names them."""

    def work(_fork):
        raise error

    with pytest.raises(type(error)) as caught:
        list(forked(work))
    assert str(caught.value) == str(error)


@pytest.mark.needs_forks
def test_an_unknown_exception_is_named():
    class OddError(Exception):
        pass

    def work(_fork):
        raise OddError("x")

    with pytest.raises(RuntimeError) as caught:
        list(forked(work))
    assert str(caught.value) == "OddError: x"
    assert "in work" in caught.value.__notes__[0]


@pytest.mark.needs_forks
def test_what_is_left_early_is_killed():
    """A caller that stops reading does not wait for the rest."""

    def work(fork):
        fork.send(os.getpid())
        time.sleep(60)

    results = forked(work)
    pid = next(results).document
    results.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.needs_forks
def test_a_fork_changes_nothing_here_and_what_it_prints_is_seen(capfd):
    kept = [1]

    def work(_fork):
        kept.append(2)
        os.write(1, b"printed")

    assert list(forked(work)) == []
    assert kept == [1]
    assert "printed" in capfd.readouterr().err


@pytest.mark.needs_forks
def test_a_fork_ends_with_its_parent(tmp_path):
    """Also if that is killed."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from relax_tapml.processes.fork import forked\n"
        "def work(fork):\n"
        "    fork.send(os.getpid())\n"
        "    time.sleep(600)\n"
        "for message in forked(work):\n"
        "    print(message.document, flush=True)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    child = psutil.Process(pid)
    parent.kill()
    parent.communicate()
    # An orphan may stay as a zombie here.
    psutil.wait_procs([child], timeout=120)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@I.ir_module
class Parallel:
    @T.prim_func(s_tir=True)
    def main(X: T.Buffer((64, 1000), "float32"), Y: T.Buffer((64, 1000), "float32")):
        for i in T.parallel(64):
            for j in range(1000):
                with T.sblock("Y"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    Y[vi, vj] = X[vi, vj] * T.float32(2)


@pytest.mark.needs_forks
def test_parallel_kernels_run_in_a_fork_after_they_ran_here():
    """TVM's threads do not exist there: the work has others."""
    built = tvm.tirx.build(Parallel, target="llvm")
    x, y = (tvm.runtime.tensor(np.ones((64, 1000), "float32")) for _ in range(2))
    built["main"](x, y)

    def work(fork):
        built["main"](y, x)
        fork.send(None, [x.numpy()])

    [message] = forked(work)
    assert (message.arrays[0] == 4).all()
    assert (x.numpy() == 1).all()


def test_without_a_fork_the_work_is_done_here():
    """As for a GPU."""
    kept = []

    def work(fork):
        fork.note("nothing")
        fork.send(2, [np.ones(3)])
        kept.append(1)

    [message] = forked(work, is_safe=False)
    assert (message.document, message.arrays[0].sum(), kept) == (2, 3.0, [1])
    assert not can_fork(tvm.target.Target("cuda"))
    assert can_fork(tvm.target.Target("llvm")) == FORKS_ARE_SAFE


@pytest.mark.needs_forks
def test_a_group_ends_its_forks_from_another_thread():
    """Also those that are started after the end."""
    group = ForkGroup()

    def work(fork):
        fork.send("begun")
        time.sleep(600)

    messages = forked(work, group=group)
    assert next(messages).document == "begun"
    threading.Thread(target=group.end).start()
    with pytest.raises(ForkFailed) as caught:
        next(messages)
    assert caught.value.is_killed
    with pytest.raises(ForkFailed):
        list(forked(work, group=group))


def test_exit_of_a_library_ends_a_fork_at_once():
    """What other libraries clear up at an exit may wait for threads that a fork has lost."""
    if not hasattr(ctypes.CDLL(None), "on_exit"):
        pytest.skip("needs on_exit of glibc")
    code = """
import ctypes, os
from relax_tapml.processes.fork import ForkFailed, forked

libc = ctypes.CDLL(None)
libc.on_exit(libc.pause, None)
try:
    list(forked(lambda fork: libc.exit(3)))
except ForkFailed as failure:
    print(failure, flush=True)
os._exit(0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert "3" in ran.stdout
