"""Kernels that are symbols of a shared library, which only a device's process loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.support import cc

LIBRARY_ATTR = "relax_tapml.linked_kernel"
"""An attribute of a PrimFunc: the ``LinkedKernel`` that it calls, as JSON."""

FFI_PREFIX = "__tvm_ffi_"
"""What TVM-FFI puts before the name of a function that a library exports."""

# What a function of TVM-FFI takes: itself, its arguments, their number, the result.
_FORWARD = """
extern "C" int {symbol}(void*, const void*, int, void*);
extern "C" int {name}(void* self, const void* args, int count, void* result) {{
  return {symbol}(self, args, count, result);
}}
"""


@dataclass(frozen=True, kw_only=True)
class LinkedKernel:
    """A function of a library.

    Parameters
    ----------
    path, digest
        The library, and the SHA-256 of its content: one of another content is another kernel.
    symbol
        The function, with ``FFI_PREFIX`` where it is one of TVM-FFI.
    """

    path: str
    digest: str
    symbol: str

    def called_by(self, like: tirx.PrimFunc, arguments: Sequence[Any]) -> tirx.PrimFunc:
        """Return a PrimFunc with the parameters of another one that calls the function.

        Parameters
        ----------
        like
            It takes what this one takes.
        arguments
            Of a function of C; one of TVM-FFI takes the parameters themselves.
        """
        call = tirx.call_extern("int32", self.symbol, *arguments)
        text = json.dumps(asdict(self), sort_keys=True)
        made = tirx.PrimFunc(like.params, tirx.Evaluate(call))
        return made.with_attr({LIBRARY_ATTR: text, "tirx.is_scheduled": True})


def linked_kernel_of(module: tvm.IRModule) -> LinkedKernel | None:
    """Return what the only PrimFunc of a module calls; None for another one."""
    [function] = module.functions.values()
    text = function.attrs.get(LIBRARY_ATTR) if function.attrs else None
    return None if text is None else LinkedKernel(**json.loads(str(text)))


def link(kernel: LinkedKernel, module: tvm.IRModule, target: Any, path: Path) -> None:
    """Make the file that a device loads, which loads the library.

    Raises any exception if it cannot be linked.
    """
    library = Path(kernel.path)
    # It stands before what needs it.
    options = ["-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{library.parent}"]
    if not kernel.symbol.startswith(FFI_PREFIX):
        tvm.tirx.build(module, target=target).export_library(str(path), options=options)
        return
    [gvar] = module.functions
    source = path.with_suffix(".cc")
    source.write_text(
        _FORWARD.format(symbol=kernel.symbol, name=f"{FFI_PREFIX}{gvar.name_hint}"),
        encoding="utf-8",
    )
    try:
        cc.create_shared(str(path), [str(source)], options=options)
    finally:
        source.unlink()
