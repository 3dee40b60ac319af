"""The programs that compile and run code for 64-bit ARM Linux on another machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from relax_tapml.system import install_command
from relax_tapml.targets.toolchain.requirement import Requirement, program

COMPILER = "aarch64-linux-gnu-g++"
_EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")


def cross_compiler() -> Requirement:
    """Return the requirement of the compiler that links kernels and builds the server."""
    return program(
        COMPILER,
        use="links kernels and builds the server",
        install=install_command(debian="g++-aarch64-linux-gnu", macos=None),
    )


def emulator() -> Requirement:
    """Return the requirement of the emulator, which a board does not need."""
    found = next((path for name in _EMULATORS if (path := shutil.which(name))), None)
    return Requirement(
        name=_EMULATORS[0],
        use="runs the server on this machine (--session process)",
        found=found,
        install=install_command(debian="qemu-user-static", macos=None),
        is_needed=False,
    )


def system_root() -> Path:
    """Return the folder whose ``lib`` has the C library that the compiler links with."""
    loader = subprocess.run(
        [COMPILER, "-print-file-name=ld-linux-aarch64.so.1"],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(loader.stdout.strip()).resolve().parent.parent
