"""A kernel that somebody wrote, before it is judged."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import tvm
from tvm import tirx

from relax_tapml.errors import UsageError
from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.foreign.module import read_module
from relax_tapml.judge_kernel._files import FOUND, REFUSED
from relax_tapml.judge_kernel.library_file import LibraryFile
from relax_tapml.judge_kernel.source_file import LANGUAGES, SourceFile
from relax_tapml.partition.device_side import callees
from relax_tapml.partition.kernel_interface import KernelInterface
from relax_tapml.processes.child import Child, ending_text

ACCEPTED = (
    "a .py file with a PrimFunc or IRModule in TVMScript, a .py file with a function of NumPy "
    "arrays or torch tensors, the .json of an IRModule (tvm.ir.save_json), source of a kernel "
    "with its launch in comments (.cu, .cl), or a function of a library (.so:NAME)"
)
"""What a candidate may be, for messages."""

_FIX = "Write it again with tvm.ir.save_json of this TVM"
_READ_S = 120.0
_TVM = re.compile(r"\btvm\b")
_TORCH = re.compile(r"^\s*(?:import|from)\s+(?:torch|triton)\b", re.MULTILINE)


class ArrayKind(StrEnum):
    """What a Python callable takes."""

    NUMPY = "numpy"
    TORCH = "torch"


@dataclass(frozen=True, kw_only=True)
class PythonCallable:
    """A function of a Python file, which no process but its own imports.

    Parameters
    ----------
    path, name
        The file, and the function in it.
    arrays
        torch where the file imports torch or triton.
    """

    path: Path
    name: str
    arrays: ArrayKind


@dataclass(frozen=True, kw_only=True)
class CandidateKernel:
    """A kernel to be judged.

    Parameters
    ----------
    text
        Where it came from, for people.
    code
        What it is.
    """

    text: str
    code: tirx.PrimFunc | PythonCallable


def load_kernel(
    kernel: str | Path | tirx.PrimFunc | tvm.IRModule, *, unit: str = "", trust: bool = False
) -> CandidateKernel | SourceFile | LibraryFile:
    """Find out what a candidate is.

    Parameters
    ----------
    kernel
        ``FILE`` or ``FILE:NAME``, see ``ACCEPTED``; or what such a file would hold. A Python file
        is imported in a process of its own, never in this one.
    unit
        Of several PrimFuncs, the one of this name is taken if none is named.
    trust
        Whether a PrimFunc may call functions that are not known to be harmless.

    Raises
    ------
    UsageError
        There is no such file, it holds nothing of the kind, or several such things.
    StoreError
        It is damaged, or calls what is not known to be harmless and ``trust`` is false.
    """
    if isinstance(kernel, tirx.PrimFunc):
        return CandidateKernel(text="a PrimFunc", code=_alone(kernel, "the PrimFunc"))
    if isinstance(kernel, tvm.IRModule):
        return CandidateKernel(text="an IRModule", code=_chosen(kernel, "", unit, "the IRModule"))
    path, name = _split(str(kernel))
    if path.suffix == ".json":
        data = read_bytes(path, fix=_FIX, max_bytes=MAX_JSON_BYTES)
        module = read_module(data, str(path), fix=_FIX, trust=trust)
        return CandidateKernel(text=str(kernel), code=_chosen(module, name, unit, str(path)))
    if path.suffix == ".py":
        return CandidateKernel(text=str(kernel), code=_of_python(path, name, unit, trust=trust))
    if path.suffix == ".so":
        return LibraryFile.read(path, name)
    if path.suffix in LANGUAGES:
        return SourceFile.read(path, name)
    if path.suffix == ".wgsl":
        raise UsageError(
            f"kernel {kernel}: TVM makes modules for WebGPU of its own code only: it has no "
            "ffi.Module.create.webgpu and no load_from_bytes.webgpu, so source has no way into "
            "one. Write the kernel in TVMScript"
        )
    raise UsageError(f"kernel {kernel}: expected {ACCEPTED}")


def check_interface(candidate: tirx.PrimFunc, own: tirx.PrimFunc, unit: str) -> None:
    """Refuse a PrimFunc that cannot be called as a unit's kernel is.

    What it writes to is for the cases to find.

    Raises
    ------
    UsageError
        Parameters differ in number, order, dtype or shape (apart from the names of symbols), or it
        takes no offset where the unit's kernel does.
    """
    given, expected = KernelInterface.of(candidate), KernelInterface.of(own)
    if given.params == expected.params and given.offsets >= expected.offsets:
        return
    raise UsageError(
        f"the kernel cannot be called as that of unit {unit} is\n"
        f"expected {expected}\n"
        f"got      {given}"
    )


def _split(text: str) -> tuple[Path, str]:
    file, colon, name = text.rpartition(":")
    path, name = (Path(file), name) if colon and name.isidentifier() else (Path(text), "")
    if not path.is_file():
        raise UsageError(f"kernel {text}: there is no file {path}; expected FILE or FILE:NAME")
    return path.resolve(), name


def _of_python(path: Path, name: str, unit: str, *, trust: bool) -> tirx.PrimFunc | PythonCallable:
    source = path.read_text(encoding="utf-8", errors="replace")
    arrays = ArrayKind.TORCH if _TORCH.search(source) else ArrayKind.NUMPY
    if name and not _TVM.search(source):
        # Only a file that imports TVM may have a PrimFunc: there is nothing to find out.
        return PythonCallable(path=path, name=name, arrays=arrays)
    folder = ScratchFolder()
    arguments = [str(path), name, unit]
    module = "relax_tapml.judge_kernel._import_main"
    has_torch = arrays is ArrayKind.TORCH
    with closing(Child(module, [], arguments, folder=folder, has_torch=has_torch)) as child:
        code = child.exit_code(_READ_S)
        refused, found = folder.path / REFUSED, folder.path / FOUND
        if code != 0 or not found.exists():
            ended = ending_text(code) or f"did not end in {_READ_S:g} s"
            why = refused.read_text() if refused.exists() else f"its import {ended}"
            printed = child.log_tail()
            raise UsageError(f"kernel {path}: {why}" + (f"\n{printed}" if printed else ""))
        document = json.loads(found.read_bytes())
    if "module" not in document:
        return PythonCallable(path=path, name=document["callable"], arrays=arrays)
    data = document["module"].encode()
    return _chosen(
        read_module(data, str(path), fix=_FIX, trust=trust), document["name"], unit, str(path)
    )


def _chosen(module: tvm.IRModule, name: str, unit: str, where: str) -> tirx.PrimFunc:
    kernels = {
        gvar.name_hint: function
        for gvar, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc)
    }
    if not name:
        name = unit if unit in kernels else next(iter(kernels)) if len(kernels) == 1 else ""
    if name not in kernels:
        listed = ", ".join(kernels) or "none"
        wanted = f"no PrimFunc {name!r}" if name else "no single PrimFunc"
        raise UsageError(f"{where} has {wanted}; it has {listed}. Name one: FILE:NAME")
    return _alone(kernels[name], f"{where}: {name}")


def _alone(kernel: tirx.PrimFunc, where: str) -> tirx.PrimFunc:
    called = sorted({gvar.name_hint for gvar in callees(kernel)})
    if called:
        raise UsageError(f"{where} calls {', '.join(called)}; expected one PrimFunc by itself")
    return kernel
