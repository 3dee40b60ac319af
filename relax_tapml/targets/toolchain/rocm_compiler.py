"""What TVM needs to compile AMD code: ROCm's device libraries, and a linker.

Both come with ROCm, and Debian has packages of them.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tvm
from tvm.support import rocm

from relax_tapml.system import install_command
from relax_tapml.targets.toolchain.requirement import Requirement

_ROOT = "ROCM_PATH"
_LIBRARY = "amdgcn/bitcode/ocml.bc"
# The oldest that links the code objects of TVM's LLVM.
_LLD = 19


@contextmanager
def rocm_compiler() -> Iterator[dict[str, str]]:
    """Let TVM find the device libraries. ``ROCM_PATH`` is restored afterwards.

    Yields
    ------
    dict
        What affects how a kernel is compiled, for its cache key.
    """
    before = os.environ.get(_ROOT)
    root = _device_libraries()
    if root is not None:
        os.environ[_ROOT] = root
    try:
        yield {"device libraries": str(root), "linker": str(_linker())}
    finally:
        if before is None:
            os.environ.pop(_ROOT, None)
        else:
            os.environ[_ROOT] = before


def is_detected() -> bool:
    """Whether ROCm is installed with the program that TVM queries for the GPU."""
    try:
        return Path(rocm.find_rocm_path(), "bin", "rocminfo").exists()
    except RuntimeError:
        return False


def requirements() -> list[Requirement]:
    """Return what compiling AMD code needs, found or missing."""
    major = tvm.target.codegen.llvm_version_major()
    libraries = install_command(debian="rocm-device-libs", macos=None)
    return [
        Requirement(
            name="ROCm's device libraries",
            use="are part of every kernel",
            found=_device_libraries(),
            install=f"{libraries}, or install ROCm and set {_ROOT} if it is not in /opt/rocm",
        ),
        Requirement(
            name=f"ld.lld of LLVM {_LLD} or newer",
            use="links kernels",
            found=_linker(),
            install=install_command(debian=f"lld-{major}", macos=None),
        ),
    ]


def _device_libraries() -> str | None:
    """Return the folder that has them, for ``ROCM_PATH``; None if there is none."""
    chosen = os.environ.get(_ROOT)
    # The folders of ROCm and of Debian.
    places = [chosen] if chosen else ["/opt/rocm", *map(str, Path("/usr/lib").glob("*-linux-gnu"))]
    return next((place for place in places if Path(place, _LIBRARY).is_file()), None)


def _linker() -> str | None:
    """Return the linker that TVM calls; None if there is none or it is too old."""
    found = rocm.find_lld(required=False)
    if not found:
        return None
    printed = subprocess.run([found[0], "--version"], capture_output=True, text=True).stdout
    version = re.search(r"LLD (\d+)", printed)
    return str(found[0]) if version and int(version[1]) >= _LLD else None
