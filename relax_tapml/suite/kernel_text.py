"""The kernels of a unit as text: TVMScript as they are built, and what the code generator makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm

from relax_tapml._compat import portable_script
from relax_tapml.errors import LoweringError
from relax_tapml.printable import message_line
from relax_tapml.processes.fork import ForkChannel, ForkFailed, forked
from relax_tapml.suite._kernel_source import kernel_source, scheduled
from relax_tapml.targets.platforms.registry import platform_of


@dataclass(frozen=True, kw_only=True)
class KernelText:
    """A unit's kernels, to be read.

    Parameters
    ----------
    script
        TVMScript, with the schedules that they are built with where there are any.
    suffix, source
        Of a file with the generated source, and the source; empty if there is none.
    missing
        Why there is no source, or not of every kernel; empty otherwise.
    """

    script: str
    suffix: str = ""
    source: str = ""
    missing: str = ""


def kernel_text(module: tvm.IRModule, target: Any) -> KernelText:
    """Print a module's kernels, and generate their code for a target.

    It is generated in a fork where the platform's compiler works in one: a code generator may end
    its process, and the kernel is one that failed.
    """

    def work(fork: ForkChannel) -> None:
        try:
            held = scheduled(module, target)
        except LoweringError as error:
            fork.send([portable_script(module), "", "", message_line(error)])
            return
        made = kernel_source(held, target)
        fork.send([portable_script(held), made.suffix, made.text, made.missing])

    try:
        is_safe = platform_of(target).compiles_in_fork(target)
        ((script, suffix, source, missing),) = [
            message.document for message in forked(work, is_safe=is_safe)
        ]
    except ForkFailed as failure:
        missing = f"generating it {failure.text}"
        return KernelText(script=portable_script(module), missing=missing)
    return KernelText(script=script, suffix=suffix, source=source, missing=missing)
