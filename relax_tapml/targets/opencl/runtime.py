"""Compile the runtime, once for each version of it and of TVM, and load it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import subprocess
import threading
from pathlib import Path

import tvm
import tvm_ffi
from tvm.support import cc
from tvm_ffi import libinfo

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.files.cache_folder import cache_folder
from relax_tapml.files.replace import new_file
from relax_tapml.system import IS_MACOS, install_command

_LOG = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
_OPTIONS = (
    *("-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-shared", "-Wall", "-Wextra"),
    # The libraries are found by name: TVM has loaded them.
    *(() if IS_MACOS else ("-Wl,-z,defs", "-Wl,--no-as-needed", "-ldl", "-lstdc++")),
)
_COMPILER = install_command(debian="g++", macos="xcode-select --install")
_FIX = f"Install a C++ compiler ('{_COMPILER}'), or set CXX to one with C++20"

# Held while it is compiled, so that threads compile it once.
_compiling = threading.Lock()


@functools.cache
def has_own_runtime() -> bool:
    """Whether OpenCL is part of TVM: as it was before ``load_opencl`` added it to this process."""
    return tvm.get_global_func("device_api.opencl", allow_missing=True) is not None


@functools.cache
def opencl_runtime() -> Path | None:
    """Return the library that adds OpenCL to TVM, compiling it if it is not in the cache.

    It needs no OpenCL on this machine, and takes ten seconds or so the first time.

    Returns
    -------
    pathlib.Path
        The library; None where TVM has OpenCL of its own.

    Raises
    ------
    DeviceUnavailable
        There is no C++ compiler, or it does not compile.
    """
    if has_own_runtime():
        return None
    path = cache_folder() / f"tvm-runtime-opencl-{_identity()}.so"
    with _compiling:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _LOG.info("compiling TVM's runtime for OpenCL to %s, once", path)
            with new_file(path) as partial:
                _compile(partial)
    return path


@functools.cache
def load_opencl() -> None:
    """Add OpenCL to the TVM of this process, unless it has it. Raises ``DeviceUnavailable``."""
    path = opencl_runtime()
    if path is None:
        return
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        raise DeviceUnavailable(
            f"TVM's runtime for OpenCL cannot be loaded: {error}. Remove {path} and run again"
        ) from error


def _identity() -> str:
    """Return a digest of everything that it is compiled from."""
    versions = (tvm.__version__, tvm_ffi.__version__, _OPTIONS, cc.get_cc())
    digest = hashlib.sha256(repr(versions).encode())
    for path in _sources(".h") + _sources(".cc"):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(suffix: str) -> list[Path]:
    return sorted(_FOLDER.glob(f"*{suffix}"))


def _compile(path: Path) -> None:
    compiler = cc.get_cc()
    if compiler is None:
        raise DeviceUnavailable(f"TVM's runtime for OpenCL cannot be compiled. {_FIX}")
    package = Path(tvm.__file__).parent
    includes = [str(package / "include"), *libinfo.include_paths()]
    command = [
        *(compiler, *map(str, _sources(".cc")), "-o", str(path), *_OPTIONS),
        *(argument for include in includes for argument in ("-isystem", include)),
        str(package / "lib" / f"libtvm_runtime.{'dylib' if IS_MACOS else 'so'}"),
        libinfo.find_libtvm_ffi(),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise DeviceUnavailable(f"{compiler} cannot be run: {error}. {_FIX}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise DeviceUnavailable(
            f"TVM's runtime for OpenCL does not compile with {compiler}: "
            f"{chr(10).join(lines[:5]) or done.stderr[-1000:]}. {_FIX}"
        )
