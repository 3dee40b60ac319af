"""TVM's runtime as WebAssembly, compiled once from the sources in TVM's wheel.

It contains no kernel: kernels are side modules that a running instance loads, see
``side_module``, so that neither a step nor a changed kernel links or sends the runtime again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tvm
import tvm_ffi

from relax_tapml.cores import usable_cores
from relax_tapml.errors import DeviceUnavailable
from relax_tapml.files.cache_folder import cache_folder
from relax_tapml.files.replace import new_file
from relax_tapml.files.scratch import scratch_folder

_LOG = logging.getLogger(__name__)
_UNITS = ("wasm_runtime", "tvmjs_support", "webgpu_runtime")
# With WebAssembly's exceptions an error inside reaches the client; without them it ends the
# instance, and the client waits for ever.
_COMPILE = ("-O1", "-std=c++17", "-fwasm-exceptions", "-w")
_LINK = (
    *("-O1", "--no-entry", "-fwasm-exceptions"),
    *("-sWASM_BIGINT=1", "-sSTANDALONE_WASM=1", "-sERROR_ON_UNDEFINED_SYMBOLS=0"),
    *("-sALLOW_MEMORY_GROWTH=1", "-sMAXIMUM_MEMORY=4GB"),
    # Side modules share the stack and add their functions to the table.
    *("-sALLOW_TABLE_GROWTH=1", "-Wl,--export=__stack_pointer", "-Wl,--no-check-features"),
)


# Held while it is compiled, so that threads compile it once.
_compiling = threading.Lock()


def wasm_runtime() -> Path:
    """Return the compiled runtime, compiling it if this version of it is not in the cache.

    Takes a few minutes the first time, which is logged.

    Raises
    ------
    DeviceUnavailable
        It does not compile.
    """
    path = cache_folder() / f"tvm-runtime-{_identity()}.wasm"
    with _compiling:
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        _LOG.info("compiling TVM's runtime to %s, once; takes some minutes", path)
        with scratch_folder() as folder:
            built = _built(folder)
            with new_file(path) as partial:
                shutil.copyfile(built, partial)
    return path


def _identity() -> str:
    """Return a digest of everything that the runtime is compiled from."""
    digest = hashlib.sha256(repr((tvm.__version__, tvm_ffi.__version__, _COMPILE, _LINK)).encode())
    for path in sorted(_stand_ins().rglob("*.h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _stand_ins() -> Path:
    return Path(__file__).parent / "stand_ins"


def _built(folder: Path) -> Path:
    """Compile and link in a folder with the layout of TVM's source tree."""
    package = Path(tvm.__file__).parent
    ffi = Path(tvm_ffi.__file__).parent
    # Copied, not linked: relative includes must find the stand-ins beside TVM's files.
    shutil.copytree(package / "src" / "runtime", folder / "src" / "runtime")
    shutil.copytree(package / "web" / "emcc", folder / "web" / "emcc")
    shutil.copytree(package / "include", folder / "include")
    shutil.copytree(_stand_ins(), folder, dirs_exist_ok=True)
    (folder / "3rdparty" / "tvm-ffi").mkdir(parents=True, exist_ok=True)
    for name in ("include", "src"):
        (folder / "3rdparty" / "tvm-ffi" / name).symlink_to(ffi / name)
    includes = (".", "include", "3rdparty/tvm-ffi/include", "3rdparty/compiler-rt")
    flags = [*_COMPILE, *(f"-I{name}" for name in includes)]

    def compiled(name: str) -> str:
        _emcc(folder, *flags, "-c", f"web/emcc/{name}.cc", "-o", f"{name}.o")
        return f"{name}.o"

    with ThreadPoolExecutor(usable_cores()) as pool:
        objects = list(pool.map(compiled, _UNITS))
    _emcc(folder, *_LINK, *objects, "-o", "runtime.wasm")
    return folder / "runtime.wasm"


def _emcc(folder: Path, *arguments: str) -> None:
    # Debian's emscripten looks for its JavaScript packages in the working folder only.
    environment = {"NODE_PATH": "/usr/share/nodejs", **os.environ}
    try:
        done = subprocess.run(
            ["emcc", *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
    except OSError as error:
        raise DeviceUnavailable(f"emcc cannot be run: {error}; see 'relax-tapml doctor'") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        message = "\n".join(lines[:5]) or done.stderr[-1000:]
        raise DeviceUnavailable(
            f"TVM's runtime does not compile to WebAssembly with {shutil.which('emcc')}: {message}"
        )
