"""A crash of a compiler is distinguished from what the machine lacks."""

from __future__ import annotations

import os
import resource
import signal
import tempfile

import pytest
from same_kernels import LLVM
from tiny_model import UNITS

from relax_tapml.errors import MachineError
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.processes.fork import forked
from relax_tapml.targets.platforms.platform import Platform

pytestmark = pytest.mark.needs_forks


@pytest.fixture
def at_softmax(monkeypatch):
    """A function that has something done in place of compiling softmax, or before it."""

    def prepare(action) -> None:
        compiled = Platform.compile

        def compile_(self, module, target, path):
            if [gvar.name_hint for gvar in module.functions] == ["softmax"]:
                action()
            compiled(self, module, target, path)

        monkeypatch.setattr(Platform, "compile", compile_)

    return prepare


def test_a_compiler_that_dies_of_a_kernel_fails_that_unit_alone(tmp_path, units, at_softmax):
    """With its last output; the tool goes on, and the other units are built."""

    def die() -> None:
        os.write(2, b"LLVM ERROR: Cannot select: t7\n")
        os.abort()

    at_softmax(die)
    built = KernelLibrary(tmp_path).build(units, LLVM)
    assert built.failed.keys() == {"softmax"}
    assert (
        "the compiler was terminated by SIGABRT (LLVM ERROR: Cannot select: t7)"
        in built.failed["softmax"]
    )
    assert built.paths.keys() == set(UNITS) - {"softmax"}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in built.files()}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_compiler_that_dies_once_accuses_nobody(tmp_path, units, at_softmax, number):
    """The kernel that it had in hand is compiled again."""
    mark = tmp_path / "mark"

    def die_once() -> None:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), number)

    at_softmax(die_once)
    built = KernelLibrary(tmp_path / "kernels").build(units, LLVM)
    assert mark.exists()
    assert not built.failed
    assert len(built.built) == len(UNITS)


def test_a_compiler_that_is_killed_is_no_fault_of_the_kernel(tmp_path, units, at_softmax):
    """The system does that where memory is short."""
    at_softmax(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(MachineError, match=r"was terminated by SIGKILL.*memory.*--resume"):
        KernelLibrary(tmp_path).build(units, LLVM)


def test_llvm_that_cannot_write_is_the_machine(tmp_path, units, at_softmax, monkeypatch):
    """It ends its process, with words that no exception has; nothing is left behind."""

    def die() -> None:
        tempfile.mkdtemp()
        os.write(2, b"LLVM ERROR: IO failure on output stream: No space left on device\n")
        os._exit(1)

    at_softmax(die)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(MachineError, match=r"No space left on device.*goes on with --resume"):
        KernelLibrary(tmp_path / "kernels").build(units, LLVM)
    assert [path.name for path in tmp_path.iterdir()] == ["kernels"]


@pytest.mark.parametrize(
    ("limit", "message"),
    [("RLIMIT_FSIZE", r"(?i)file.*ulimit -f"), ("RLIMIT_NOFILE", "Too many open files")],
)
def test_no_room_for_files_is_the_machine(tmp_path, units, limit, message):
    """In LLVM, in the linker or in our own code. Later all kernels are built."""

    def work(fork) -> None:
        lowest_free = os.dup(0)  # The limit is a number, and numbers may be free below others.
        os.close(lowest_free)
        most = 9000 if limit == "RLIMIT_FSIZE" else lowest_free
        resource.setrlimit(getattr(resource, limit), (most, most))
        KernelLibrary(tmp_path).build(units, LLVM)

    with pytest.raises(MachineError, match=message):
        list(forked(work))
    assert len(KernelLibrary(tmp_path).build(units, LLVM).built) == len(UNITS)


def test_a_missing_compiler_is_the_machine(tmp_path, units, monkeypatch):
    """And not what every unit does wrong."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"g\+\+.* PATH"):
        KernelLibrary(tmp_path / "kernels").build(units, LLVM)
