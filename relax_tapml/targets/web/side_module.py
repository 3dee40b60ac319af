"""Kernels as WebAssembly side modules: position-independent code that a running instance loads."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.targets.web.toolchain import linker

# LLVM generates position-independent code for this triple only.
TRIPLE = "wasm32-unknown-emscripten"

FLAGS = (
    *("--shared", "--experimental-pic", "--allow-undefined", "--export-dynamic", "--strip-debug"),
    *("--export-if-defined=__wasm_call_ctors", "--export-if-defined=__wasm_apply_data_relocs"),
)
"""Options of the linker."""


def with_prefix(module: Any, prefix: str) -> Any:
    """Return a module whose functions have unique names in TVM's registry of symbols.

    Every side module adds its symbols there; TVM looks up ``name`` of the library ``prefix`` as
    ``prefix + name``.
    """
    functions = {
        prefix + gvar.name_hint: function.with_attr("global_symbol", prefix + gvar.name_hint)
        for gvar, function in module.functions.items()
    }
    return tvm.IRModule(functions, attrs={"system_lib_prefix": prefix})


def prefix_of(path: Path) -> str:
    """Return the prefix for a kernel in a file that is named by its content.

    Raises ``ValueError`` if the name has no digest of 32 hexadecimal digits.
    """
    found = re.search("[0-9a-f]{32}", path.name)
    if found is None:
        raise ValueError(f"{path}: expected the digest of its content in the name")
    return f"k{found.group()}_"


def link(objects: Sequence[str], path: Path) -> None:
    """Link object files to a side module. Raises ``RuntimeError`` with the linker's message."""
    found = linker()
    assert found is not None  # checked with the platform's requirements
    done = subprocess.run(
        [found, *FLAGS, *objects, "-o", str(path)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"wasm-ld failed: {done.stderr.strip()}")


def _packer() -> Callable[..., None]:
    def pack(path: str, objects: Sequence[str], **_: Any) -> None:
        link(objects, Path(path))

    pack.object_format = "o"  # type: ignore[attr-defined]  # read by export_library
    return pack


PACKER = _packer()
"""The linker for ``export_library``."""
