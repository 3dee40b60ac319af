"""Read modules in a child process first, so that a crash of TVM does not end the tool."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import tvm
import tvm_ffi

from relax_tapml._compat import load_json, verify_well_formed
from relax_tapml.errors import MachineError, StoreError
from relax_tapml.printable import error_line
from relax_tapml.processes.fork import ForkChannel, ForkFailed, forked

_CPU_SECONDS = 20
_CPU_SECONDS_PER_MB = 20
# Ends a child that blocks without using the processor.
_WALL_TO_CPU = 30
_MEMORY_BYTES = 4 << 30


def try_load(texts: Mapping[str, str], *, fix: str) -> None:
    """Read, walk, print and hash modules in a fork of this process.

    On Linux only: elsewhere TVM may not work in a fork, and they are read in this process.

    Parameters
    ----------
    texts
        Their JSON, by path for messages.
    fix
        What to do if one cannot be used, a sentence.

    Raises
    ------
    StoreError
        One cannot be read, ends the process, or takes too long or too much memory.
    """
    if not texts:
        return

    def work(fork: ForkChannel) -> None:
        for where, text in texts.items():
            fork.note(where)
            _use(text, where, fix)

    run_limited(work, size=sum(map(len, texts.values())), what="reading", fix=fix)


def run_limited(work: Callable[[ForkChannel], None], *, size: int, what: str, fix: str) -> None:
    """Run work that may crash in a fork, with limits that grow with the size of its input.

    Processor time is limited, so that a busy machine refuses nothing.

    Parameters
    ----------
    work
        Calls ``note`` with the file that it reads next.
    size
        Bytes of all files.
    what
        For messages: what the work does with a file.
    fix
        What to do if it cannot be used, a sentence.

    Raises
    ------
    StoreError
        A signal ended the fork, it exceeded a limit, or it raised such an error.
    MachineError
        There is not enough memory to fork.
    """
    is_linux = sys.platform == "linux"
    seconds = _CPU_SECONDS + _CPU_SECONDS_PER_MB * (size >> 20)

    def limited(fork: ForkChannel) -> None:
        if is_linux:
            _limit(seconds)
        work(fork)

    try:
        for _ in forked(limited, is_safe=is_linux):
            pass
    except ForkFailed as failure:
        cause = failure.cause
        if "SIGXCPU" in cause or "SIGALRM" in cause:
            cause = f"needed more than {seconds} s"
        raise StoreError(f"{failure.at}: TVM {cause} while {what} it. {fix}") from None
    except OSError as error:
        raise MachineError(
            f"no child process can be started to check files: {error.strerror}. Free memory, or "
            "raise the limit of processes"
        ) from error


def _limit(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.setitimer(signal.ITIMER_REAL, seconds * _WALL_TO_CPU)
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = held * resource.getpagesize() + _MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _use(text: str, where: str, fix: str) -> None:
    """Read a module and do what the tool does first with it."""
    try:
        module = load_json(text)
        if not isinstance(module, tvm.IRModule):
            raise TypeError(f"it is a {type(module).__name__}")
        tvm_ffi.structural_walk(module, (tvm.ir.BaseFunc, lambda _: None))
        verify_well_formed(module, False)
        module.script()
        tvm_ffi.structural_hash(module)
        tvm.ir.save_json(module)
    except Exception as error:  # TVM may raise anything.
        raise StoreError(
            f"{where} is damaged: it is not a module this TVM can read: {error_line(error)}. {fix}"
        ) from None
