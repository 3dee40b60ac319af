"""Read modules in a child process first, so that a crash of TVM does not end the tool."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
import tvm_ffi

from relax_tapml._compat import load_json, verify_well_formed
from relax_tapml.errors import MachineError, StoreError
from relax_tapml.foreign._apart import done_apart
from relax_tapml.printable import error_line
from relax_tapml.processes.fork import ForkChannel, ForkFailed, forked
from relax_tapml.system import FORKS_ARE_SAFE

_CPU_SECONDS = 20
_CPU_SECONDS_PER_MB = 20
# Ends a child that blocks without using the processor.
_WALL_TO_CPU = 30
_MEMORY_BYTES = 4 << 30
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, kw_only=True)
class ForeignFiles:
    """Files that a child reads.

    Parameters
    ----------
    contents
        By path for messages.
    libraries
        Paths of shared libraries.
    fix
        What to do if one cannot be used, a sentence.
    """

    contents: Mapping[str, bytes]
    libraries: Sequence[Path] = ()
    fix: str


Work = Callable[[ForkChannel, ForeignFiles], None]
"""A function of a module: a new process finds it there. Calls ``note`` with what it reads next."""


def try_load(texts: Mapping[str, str], *, fix: str) -> None:
    """Read, walk, print and hash modules in a child process.

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

    contents = {where: text.encode() for where, text in texts.items()}
    run_limited(use_modules, ForeignFiles(contents=contents, fix=fix), what="reading")


def use_modules(child: ForkChannel, files: ForeignFiles) -> None:
    """Use the modules in some JSON as the tool does first; a ``Work``."""
    for where, content in files.contents.items():
        child.note(where)
        _use(content.decode(), where, files.fix)


def run_limited(work: Work, files: ForeignFiles, *, what: str) -> None:
    """Run work that may crash in a child, with limits that grow with the size of its input.

    The child is a fork, which starts in milliseconds, where ``FORKS_ARE_SAFE``; elsewhere a new
    process, which starts as long as TVM does. Processor time is limited, so that a busy machine
    refuses nothing; memory where the system tells how much is held.

    Parameters
    ----------
    work
        What the child does.
    files
        What it reads.
    what
        For messages: what the work does with a file.

    Raises
    ------
    StoreError
        A signal ended the child, it exceeded a limit, or it raised such an error.
    MachineError
        There is not enough memory for a child.
    """
    size = sum(map(len, files.contents.values()))
    seconds = _CPU_SECONDS + _CPU_SECONDS_PER_MB * (size >> 20)

    try:
        if FORKS_ARE_SAFE:
            for _ in forked(lambda fork: do_limited(work, fork, files, seconds)):
                pass
        else:
            done_apart(work, files, seconds)
    except ForkFailed as failure:
        cause = failure.cause
        if "SIGXCPU" in cause or "SIGALRM" in cause:
            cause = f"needed more than {seconds} s"
        raise StoreError(f"{failure.at}: TVM {cause} while {what} it. {files.fix}") from None
    except OSError as error:
        raise MachineError(
            f"no child process can be started to check files: {error.strerror}. Free memory, or "
            "raise the limit of processes"
        ) from error


def do_limited(work: Work, child: ForkChannel, files: ForeignFiles, seconds: int) -> None:
    """Do work in this process, the child, with limits."""
    _limit(seconds)
    work(child, files)


def _limit(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.setitimer(signal.ITIMER_REAL, seconds * _WALL_TO_CPU)
    try:
        held = int(_STATM.read_text(encoding="ascii").split()[0])
    except OSError:
        return
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
