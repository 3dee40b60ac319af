"""64-bit ARM CPUs with Linux; kernels are cross-compiled on another machine."""

from __future__ import annotations

import json
import platform as machine
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm.support import cc

from relax_tapml.system import IS_MACOS
from relax_tapml.targets.arm64.runtime import runtime
from relax_tapml.targets.arm64.server import build_server
from relax_tapml.targets.arm64.toolchain import COMPILER, cross_compiler, emulator, system_root
from relax_tapml.targets.platforms.platform import Opener, Platform
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.session.rpc_session import Server
from relax_tapml.targets.toolchain.default_schedule import schedule
from relax_tapml.targets.toolchain.requirement import Requirement

_ARCHITECTURES = ("aarch64", "arm64")
# Systems with other C libraries and compilers.
_OTHERS = ("android", "apple", "darwin", "musl", "windows")


class Arm64(Platform):
    """Shared objects for Linux on ARM, run by TVM's C++ runtime alone.

    The device has no Python: it is ``arm64/server.cc``, under an emulator here or on a board.
    """

    name = "arm64"
    summary = "a 64-bit ARM CPU with Linux: emulated here, or a board over RPC without Python"
    tried_on = "qemu-user 7.2; no board"

    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are for ARM Linux, and this machine is not."""
        triple = str(target.attrs.get("mtriple", ""))
        return (
            target.kind.name == "llvm"
            and triple.split("-")[0] in _ARCHITECTURES
            and not any(system in triple for system in _OTHERS)
            and (IS_MACOS or machine.machine() not in _ARCHITECTURES)
        )

    def target_json(self, text: str) -> str | None:
        """Return the JSON of a target by this platform's name; None for other names."""
        if text != self.name:
            return None
        return json.dumps({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]})

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc to a file that the device loads."""
        library = tvm.tirx.build(schedule(module, target), target=target)
        library.export_library(str(path), fcompile=cc.cross_compiler(COMPILER))

    def sessions(self) -> Mapping[str, Opener]:
        """Return how to open a device here: in an emulator."""
        return {"process": self._process}

    def server_command(self, options: str) -> str:
        """Return the command that starts a server on the device's machine, for messages."""
        return (
            f"'run.sh {options}', from the folder that 'python -m relax_tapml.targets.arm64 "
            "DIR' writes,"
        )

    def requirements(self) -> list[Requirement]:
        """Return what it needs on this machine beside Python packages, found or missing."""
        return [cross_compiler(), emulator(), runtime()]

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        return all(item.found for item in (emulator(), runtime()))

    def start(self) -> Server:
        """Start the server under the emulator. Raises ``DeviceUnavailable``."""
        self._demand(self.requirements())
        command = [emulator().found or "", "-L", str(system_root()), str(build_server())]
        return DeviceProcess("relax_tapml.targets.arm64.emulator", command)
