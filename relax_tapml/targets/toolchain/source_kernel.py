"""Kernels that are source text: a PrimFunc that launches one, and the file that a device loads."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from relax_tapml._compat import IS_TVM_026
from relax_tapml.errors import LoweringError

SOURCE_ATTR = "relax_tapml.source_kernel"
"""An attribute of a PrimFunc: the ``SourceKernel`` that it launches, as JSON."""

SHARED_TAG = "tirx.use_dyn_shared_memory"
"""The launch tag of the bytes of dynamic shared memory."""

_THREADS = ("blockIdx.x", "blockIdx.y", "blockIdx.z", "threadIdx.x", "threadIdx.y", "threadIdx.z")
_DTYPE_CODES = {"int": 0, "uint": 1, "float": 2, "handle": 3}


@dataclass(frozen=True, kw_only=True)
class SourceKernel:
    """A kernel in the language of a device.

    Parameters
    ----------
    language
        The kind of the targets that compile it.
    source
        Its text.
    name
        The kernel in it.
    arguments
        Its dtypes, ``handle`` for a tensor.
    has_shared_memory
        Whether the launch states bytes of dynamic shared memory.
    """

    language: str
    source: str
    name: str
    arguments: tuple[str, ...]
    has_shared_memory: bool

    @property
    def tags(self) -> tuple[str, ...]:
        """What follows the arguments in a launch."""
        return (*_THREADS, SHARED_TAG) if self.has_shared_memory else _THREADS

    def launched_by(self, like: tirx.PrimFunc, arguments: Sequence[Any]) -> tirx.PrimFunc:
        """Return a PrimFunc with the parameters of another one that launches the kernel.

        Parameters
        ----------
        like
            It takes what this one takes.
        arguments
            Of the kernel and of the launch, expressions of the parameters.
        """
        call = tirx.call_packed(self.name, *arguments)
        text = json.dumps(asdict(self), sort_keys=True)
        made = tirx.PrimFunc(like.params, tirx.Evaluate(call))
        return made.with_attr({SOURCE_ATTR: text, "tirx.is_scheduled": True})


def source_of(module: tvm.IRModule) -> SourceKernel | None:
    """Return the source that the only PrimFunc of a module launches; None for another one."""
    [function] = module.functions.values()
    text = function.attrs.get(SOURCE_ATTR) if function.attrs else None
    if text is None:
        return None
    document = json.loads(str(text))
    return SourceKernel(**{**document, "arguments": tuple(document["arguments"])})


def compile_source(kernel: SourceKernel, module: tvm.IRModule, target: Any, path: Path) -> None:
    """Compile a PrimFunc that launches a kernel, and the kernel, to a file that the device loads.

    Raises any exception if it does not build.
    """
    kind = str(target.kind.name)
    if kernel.language != kind or kind not in _MODULES:
        raise LoweringError(f"source for {kernel.language} cannot be compiled for target {kind}")
    hosted = target if target.host is not None else tvm.target.Target(target, host="llvm")
    host = tvm.tirx.build(module, target=hosted)
    host.import_module(_MODULES[kind](kernel, target))
    host.export_library(str(path))


def _of_cuda(kernel: SourceKernel, target: Any) -> Any:
    """Compile as TVM does its own kernels: with the same compiler, and the same options."""
    compiled = tvm.get_global_func("tvm_callback_cuda_compile")
    with target:  # TVM 0.27 takes the architecture from it.
        binary = compiled(kernel.source, target) if IS_TVM_026 else compiled(kernel.source)
    data = binary.encode() if isinstance(binary, str) else bytes(binary)
    fmt = "ptx" if data.startswith(b"/") else "cubin"  # PTX begins with a comment.
    functions = {
        kernel.name: {
            "name": "",
            "arg_types": list(kernel.arguments),
            "launch_param_tags": list(kernel.tags),
        }
    }
    document = json.dumps({"tvm_version": tvm.__version__, "func_info": functions})
    facts = tvm.get_global_func("runtime.LoadMetaDataFromJSON")(document)
    return tvm.get_global_func("ffi.Module.create.cuda")(data, fmt, facts, {})


def _of_opencl(kernel: SourceKernel, _target: Any) -> Any:
    """Make the module that ``targets/opencl`` loads, which compiles it if there is a device."""
    return tvm.get_global_func("ffi.Module.load_from_bytes.opencl")(_payload(kernel))


_MODULES = {"cuda": _of_cuda, "opencl": _of_opencl}


def _payload(kernel: SourceKernel) -> bytes:
    """Return what ``targets/opencl/payload.h`` describes."""

    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack("<Q", len(data)) + data

    def dtype(name: str) -> bytes:
        if name == "handle":
            return struct.pack("<BBH", _DTYPE_CODES[name], 64, 1)
        kind = name.rstrip("0123456789")
        return struct.pack("<BBH", _DTYPE_CODES[kind], int(name.removeprefix(kind)), 1)

    count = struct.Struct("<Q").pack
    signature = [
        *(text(kernel.name), text(kernel.name), count(len(kernel.arguments))),
        *map(dtype, kernel.arguments),
        count(len(kernel.tags)),
        *map(text, kernel.tags),
        count(0),
    ]
    return b"".join([text("cl"), count(1), *signature, text(kernel.source)])
