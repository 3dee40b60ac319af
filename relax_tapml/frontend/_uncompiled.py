"""Functions of a module that TVM cannot compile, found one by one.

MLC adds functions for GPUs, such as a sampler, that another release of TVM may refuse: the whole
module would fail with one of them. What is known is mended in ``mlc_compat``.
"""

from __future__ import annotations

from collections.abc import Collection

import tvm
from tvm import relax

from relax_tapml.files.machine import raise_machine_error
from relax_tapml.passes.submodule import submodule
from relax_tapml.printable import message_line

_PASSES = (
    relax.transform.ToNonDataflow(),
    relax.transform.RemovePurityChecking(),
    relax.transform.CallTIRRewrite(),
)


def uncompiled_functions(module: tvm.IRModule, needed: Collection[str]) -> dict[str, str]:
    """Return the public functions that TVM refuses to compile: name to reason.

    Parameters
    ----------
    module
        Fused, and not scheduled.
    needed
        Names of functions that are not looked at, because nothing can be run without them.
    """
    found: dict[str, str] = {}
    for gvar, function in module.functions.items():
        name = gvar.name_hint
        is_public = isinstance(function, relax.Function) and "global_symbol" in function.attrs
        if not is_public or name in needed:
            continue
        try:
            tvm.transform.Sequential(_PASSES)(submodule(module, [name]))
        except Exception as error:  # Whatever TVM raises.
            raise_machine_error(error, f"compiling {name}")
            found[name] = message_line(error)
    return found
