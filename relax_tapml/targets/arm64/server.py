"""Compile the RPC server for 64-bit ARM Linux, once for each version of it and of TVM."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tvm_ffi import libinfo

from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.files.replace import new_file
from relax_tapml.targets.arm64.runtime import LIBRARIES, runtime_folder
from relax_tapml.targets.arm64.toolchain import COMPILER, cross_compiler

_FOLDER = Path(__file__).parent
_SOURCES = tuple(
    _FOLDER / name
    for name in ("keyed_listener.cc", "server.cc", "tensor_exchange.cc", "tracker.cc")
)
_HEADERS = tuple(
    _FOLDER / name for name in ("check.h", "keyed_listener.h", "tensor_exchange.h", "tracker.h")
)
_OPTIONS = ("-std=c++17", "-O2", "-Wall", "-Wextra")
# The server loads the libraries beside it, in the cache and on a board.
_LIBRARY_PATH = "-Wl,-rpath,$ORIGIN"


def build_server() -> Path:
    """Return the server, beside the libraries it needs.

    Raises
    ------
    DeviceUnavailable
        It does not compile, or the compiler or TVM's runtime is missing.
    """
    folder = runtime_folder()
    content = b"".join(path.read_bytes() for path in (*_SOURCES, *_HEADERS))
    server = folder / f"server-{hashlib.sha256(content).hexdigest()[:16]}"
    if server.exists():
        return server
    compiler = cross_compiler()
    if not compiler.found:
        raise DeviceUnavailable(f"{compiler.name} is missing ({compiler.install})")
    options = [
        *(argument for path in libinfo.include_paths() for argument in ("-isystem", path)),
        *("-Wl,--no-as-needed", _LIBRARY_PATH, *(str(folder / name) for name in LIBRARIES)),
    ]
    try:
        with new_file(server) as partial:
            command = [COMPILER, *_OPTIONS, "-o", str(partial), *map(str, _SOURCES), *options]
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        raise DeviceUnavailable(f"the ARM64 server does not compile: {output.strip()}") from error
    return server


def copy_server(folder: Path) -> None:
    """Write the server, its libraries and a script that starts it to a folder, for a board.

    Raises
    ------
    DeviceUnavailable
        As ``build_server``.
    UsageError
        The folder cannot be written to.
    """
    server = build_server()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sources = {"server": server, **{name: server.parent / name for name in LIBRARIES}}
        for name, source in sources.items():
            with new_file(folder / name) as partial:
                shutil.copy(source, partial)
        with new_file(folder / "run.sh") as partial:
            partial.write_text('#!/bin/sh\nexec "$(dirname "$0")/server" "$@"\n')
            partial.chmod(0o755)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}. Name another folder") from error
