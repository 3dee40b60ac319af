"""What a target's code generator makes of the kernels of a module, to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from relax_tapml.files.machine import raise_machine_error
from relax_tapml.printable import message_line
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.toolchain.default_schedule import schedule

_SUFFIX = {
    "llvm": ".ll",
    "c": ".c",
    "cuda": ".cu",
    "opencl": ".cl",
    "metal": ".metal",
    "webgpu": ".wgsl",
}


@dataclass(frozen=True, kw_only=True)
class KernelSource:
    """Generated source of all kernels of a module.

    Parameters
    ----------
    suffix
        Of a file that holds it, ``.cu``.
    text
        The source; empty if there is none.
    missing
        Why there is none, or not of every kernel; empty otherwise.
    """

    suffix: str
    text: str
    missing: str


def scheduled(module: tvm.IRModule, target: Any) -> tvm.IRModule:
    """Return a module whose kernels have the schedules that they are built with.

    Raises
    ------
    LoweringError
        There is no schedule for one of them.
    """
    return schedule(module, target)


def kernel_source(module: tvm.IRModule, target: Any) -> KernelSource:
    """Generate the code of a module's kernels.

    Parameters
    ----------
    module
        From ``scheduled``; one without kernels is all right.
    target
        The ``tvm.target.Target`` to generate it for.
    """
    texts: list[str] = []
    missing: list[str] = []
    platform = platform_of(target)
    kind = target.kind.name
    for gvar, function in module.functions.items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        name = gvar.name_hint
        alone = tvm.IRModule({name: function.with_attr("global_symbol", name)})
        try:
            with platform.compiler(target):
                built = tvm.tirx.build(alone, target=target)
            # The host's module launches what is in the device's modules.
            parts = [m.inspect_source() for m in built.imports if m.kind == kind]
            texts += parts or [built.inspect_source("ll" if kind == "llvm" else "")]
        except Exception as error:  # Whatever a code generator or a compiler raises.
            raise_machine_error(error, f"generating the code of {name}")
            missing.append(f"{name}: {message_line(error, -1)}")
    return KernelSource(
        suffix=_SUFFIX.get(kind, ".txt"), text="\n".join(texts), missing="; ".join(missing)
    )
