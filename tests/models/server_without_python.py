"""The C++ server of ``targets/arm64``, built for this machine: a server that has no Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tvm
from tvm_ffi import libinfo

from relax_tapml.targets.arm64 import server
from relax_tapml.targets.arm64.runtime import LIBRARIES
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.session.rpc_session import RPCSession

SUPPORTED = sys.platform == "linux"


def build(folder: Path) -> Path:
    """Compile it, one process a file, and link it with TVM's C++ runtime alone."""
    includes = [a for path in libinfo.include_paths() for a in ("-isystem", str(path))]
    sources = {folder / f"{source.stem}.o": source for source in server._SOURCES}
    compilers = [
        subprocess.Popen(["g++", "-std=c++17", "-c", str(source), "-o", str(made), *includes])
        for made, source in sources.items()
    ]
    assert [compiler.wait() for compiler in compilers] == [0] * len(compilers)
    places = [Path(libinfo.find_libtvm_ffi()).parent, Path(tvm.__file__).parent / "lib"]
    libraries = [
        str(place / name) for name in LIBRARIES for place in places if (place / name).exists()
    ]
    paths = [f"-Wl,-rpath,{place}" for place in places]
    program = folder / "server"
    linked = ["g++", "-o", str(program), *map(str, sources), "-Wl,--no-as-needed", *libraries]
    subprocess.run([*linked, *paths], check=True)
    return program


def open_session(program: Path) -> RPCSession:
    """Return a session with such a server, through a file for tensors as on one machine."""
    process = DeviceProcess("relax_tapml.targets.arm64.emulator", [str(program)])
    return RPCSession(process, parse_target("llvm"), timeout_s=60.0)
