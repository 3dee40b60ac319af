"""Compiles kernels in forks of this process, so that a compiler crash ends only a fork."""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tvm

from relax_tapml.cores import usable_cores
from relax_tapml.files.machine import lack_now, raise_machine_error
from relax_tapml.files.scratch import scratch_folder
from relax_tapml.partition._kernel_files import KernelFiles, KernelName
from relax_tapml.processes.fork import ForkChannel, ForkFailed, ForkRetries, forked
from relax_tapml.targets.platforms.platform import Platform

# The most kernels of one round: their numbers fit into the buffer of a pipe.
_MOST = 1 << 13
_NUMBER = struct.Struct("<i")


@dataclass(frozen=True, kw_only=True)
class KernelJob:
    """A kernel that is to be compiled.

    Parameters
    ----------
    name
        The name of its file.
    module
        A module with its PrimFunc only.
    target
        The ``tvm.target.Target`` to compile it for.
    """

    name: KernelName
    module: tvm.IRModule
    target: tvm.target.Target


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """The result of a job: a file, or the reason why there is none."""

    path: Path | None = None
    reason: str = ""


def compile_kernels(
    jobs: Sequence[KernelJob],
    platform: Platform,
    files: KernelFiles,
    on_built: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[KernelName, Compiled]:
    """Compile kernels on all cores.

    A compiler may end its process: LLVM does if it cannot write a file, or cannot select
    instructions. So kernels are compiled in forks, one for each core, if the platform's compiler
    works in a fork. A kernel during which a fork died is compiled once more, alone.

    Parameters
    ----------
    jobs
        What to compile.
    platform
        The platform of all of them; its ``compiler`` has been set up.
    files
        The folder of the results.
    on_built
        Called after each kernel, with how many of how many are done; from any thread.

    Raises
    ------
    MachineError
        The machine lacked something, so no kernel is to blame.
    """
    done: dict[KernelName, Compiled] = {}
    suspects: dict[KernelName, KernelJob] = {}
    retries = ForkRetries(_doing(platform))
    while left := [job for job in jobs if job.name not in done]:
        alone = next(iter(suspects.values()), None)
        chosen = left[:_MOST] if alone is None else [alone]
        for death in _round(chosen, platform, files, done, lambda: on_built(len(done), len(jobs))):
            is_retried = retries.allows(death)
            if lack := lack_now(files.folder):
                raise lack.error(_doing(platform))
            job = chosen[int(death.at or 0)]
            if job.name in done:
                continue
            if alone is None:
                suspects[job.name] = job
            elif not is_retried:
                why = f"the compiler {death.text}"
                done[job.name] = Compiled(reason=_unbuilt(job, platform, why))
        if alone is not None and alone.name in done:
            del suspects[alone.name]
    has_failed = any(result.reason for result in done.values())
    # The machine may lack something that the compiler reports in an unknown message.
    if has_failed and (lack := lack_now(files.folder, compiler=platform.suffix == ".so")):
        raise lack.error(_doing(platform))
    return done


def _round(
    jobs: Sequence[KernelJob],
    platform: Platform,
    files: KernelFiles,
    done: dict[KernelName, Compiled],
    on_done: Callable[[], None],
) -> list[ForkFailed]:
    """Compile kernels in a fork for each core, and return the deaths of forks.

    ``ForkFailed.at`` is the number of the kernel that the fork was compiling.
    """
    count = min(usable_cores(), len(jobs))
    is_forked = platform.compiles_in_fork(jobs[0].target)
    deaths: list[ForkFailed] = []
    is_over = threading.Event()
    # Every fork takes the next number from a pipe, so that no core is idle while work is left.
    numbers, end = os.pipe()
    os.write(end, b"".join(map(_NUMBER.pack, range(len(jobs)))))
    os.close(end)

    def work(fork: ForkChannel) -> None:
        if is_forked:  # No other thread of a fork reads these settings.
            tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
        while packed := os.read(numbers, _NUMBER.size):
            (number,) = _NUMBER.unpack(packed)
            fork.note(str(number))
            result = _compiled(jobs[number], platform, files)
            fork.send([number, str(result.path or ""), result.reason])

    def watch(_: int) -> None:
        try:
            for message in forked(work, is_safe=is_forked):
                number, path, reason = message.document
                done[jobs[number].name] = Compiled(path=Path(path) if path else None, reason=reason)
                on_done()
                if is_over.is_set():
                    return
        except ForkFailed as death:
            deaths.append(death)

    try:
        # The folder is removed together with the files of a compiler that died.
        with scratch_folder() as scratch, ThreadPoolExecutor(count) as pool:
            try:
                list(pool.map(watch, range(count)))
            except BaseException:
                is_over.set()
                raise
    finally:
        os.close(numbers)
        files.sweep()
    return deaths


def _compiled(job: KernelJob, platform: Platform, files: KernelFiles) -> Compiled:
    try:
        path = files.make(job.name, lambda built: platform.compile(job.module, job.target, built))
    except Exception as error:  # Whatever a pass, a code generator or a compiler raises.
        raise_machine_error(error, f"{_doing(platform)}, {job.name.kernel}", files.folder)
        return Compiled(reason=_unbuilt(job, platform, _brief(error)))
    return Compiled(path=path)


def _doing(platform: Platform) -> str:
    return f"building kernels for {platform.name}"


def _unbuilt(job: KernelJob, platform: Platform, why: str) -> str:
    return f"{job.name.kernel} does not build for {platform.name}: {why}"


def _brief(error: Exception) -> str:
    """Return the last lines of a compiler error, without its C++ backtrace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("File ", "at ", "[bt]"))]
    text = " ".join(lines[-3:]) if lines else type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."
