"""Compiles Relax functions to VM bytecode. Kernels are built by ``kernel_library``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax import vm_build

from relax_tapml.files.scratch import scratch_folder
from relax_tapml.partition.kernel_library import KernelLibrary


@dataclass(frozen=True, kw_only=True)
class CompiledFunctions:
    """The Relax functions of a module, compiled.

    Parameters
    ----------
    bytecode
        A serialised ``relax.VMExecutable``, for ``load_bytecode``.
    shape_functions
        Shared objects of the functions that compute symbolic dimensions; none for static shapes.
    """

    bytecode: bytes
    shape_functions: tuple[Path, ...]


def compile_functions(
    module: tvm.IRModule, target: tvm.target.Target, library: KernelLibrary
) -> CompiledFunctions:
    """Compile the Relax functions of a module; its PrimFuncs are called by name, not built.

    It takes milliseconds, since no kernel is compiled. The build pipeline adds a PrimFunc for
    arithmetic on symbolic dimensions, which is built for the CPU that runs the VM and then reused.

    Raises
    ------
    LoweringError
        A shape function does not build.
    """
    before = {gvar.name_hint for gvar in module.functions}
    with target:
        module = relax.get_pipeline("default_build")(module)
    builder = relax.ExecBuilder()
    rest = vm_build._vmcodegen(builder, module)
    executable = vm_build._vmlink(builder, target, None, params={})
    added = {
        gvar: function
        for gvar, function in rest.functions.items()
        if isinstance(function, tirx.PrimFunc) and gvar.name_hint not in before
    }
    with scratch_folder() as folder:
        path = folder / "bytecode"
        executable.mod.write_to_file(str(path), "bin")
        bytecode = path.read_bytes()
    return CompiledFunctions(
        bytecode=bytecode,
        shape_functions=library.build_host_functions(tvm.IRModule(added), target) if added else (),
    )


def load_bytecode(bytecode: bytes) -> Any:
    """Return the executable module of ``compile_functions``, in this process."""
    return tvm.get_global_func("ffi.Module.load_from_bytes.relax.VMExecutable")(bytecode)
