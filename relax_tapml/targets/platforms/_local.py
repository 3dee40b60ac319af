"""This machine's CPU, and every other target that a process here can run."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import tvm
from tvm.rpc import server
from tvm.support import utils

from relax_tapml.cpu_schedule.native_cpu import with_native_cpu, without_native_cpu
from relax_tapml.targets.platforms.platform import Platform
from relax_tapml.targets.server.exit_report import ExitReport
from relax_tapml.targets.toolchain.linked_kernel import link, linked_kernel_of
from relax_tapml.targets.toolchain.trusted_target import is_trusted, trusted


def _is_fast(name: str) -> bool:
    """Whether an attribute of a target lets LLVM change what is calculated."""
    return name.startswith("fast-math")


class Local(Platform):
    """Kernels that are shared objects for this kind of machine."""

    name = "llvm"
    summary = "this machine's CPU, or one like it over RPC"
    tried_on = "x86-64"

    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's: yes."""
        del target
        return True

    def trusted(self, target: Any) -> Any:
        """Return the target for kernels that LLVM does not compile with fast math."""
        attributes = json.loads(str(target))
        kept = {name: value for name, value in attributes.items() if not _is_fast(name)}
        return target if kept == attributes else trusted(tvm.target.Target(kept))

    def options_text(self, target: Any) -> str:
        """What compile options of a target differ from TVM's, for people; empty if none does."""
        return "compiled without fast math" if is_trusted(target) else ""

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc to a file that the device loads."""
        linked = linked_kernel_of(module)
        if linked is None:
            super().compile(module, target, path)
        else:
            link(linked, module, target, path)

    def here(self, target: Any) -> Any:
        """Return a target for code that is compiled and run on this machine: for its CPU."""
        return with_native_cpu(target)

    def portable(self, target: Any) -> Any:
        """Return the target that ``here`` made this one of, for any machine."""
        return without_native_cpu(target)

    def serve(self, connection: socket.socket, folder: Path) -> ExitReport:
        """Serve a client of a fleet in this process until it leaves."""
        server._serve_loop(connection, "", utils.tempdir(str(folder / "work")))
        return ExitReport(cause=None)
