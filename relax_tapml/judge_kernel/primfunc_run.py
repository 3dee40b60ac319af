"""A PrimFunc in the place of the kernel of a unit."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from relax_tapml.errors import UsageError
from relax_tapml.judge_kernel.candidate_kernel import ACCEPTED
from relax_tapml.kernel_flow.kernel_call import kernel_call_of
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.replays.unit.unit_programs import UnitPrograms
from relax_tapml.suite.open_suite import Suite


def own_kernel(suite: Suite, unit: str) -> tuple[str, tirx.PrimFunc]:
    """Return the kernel of a unit on the suite's target, with its name in the unit's module.

    Raises
    ------
    UsageError
        The unit is no single PrimFunc, so none can take its place.
    """
    module = suite.target_module(unit)
    calls = [kernel_call_of(module, case.function) for case in suite.unit(unit).cases]
    kernels = {
        gvar.name_hint: call.kernel
        for call in calls
        if call is not None
        for gvar, function in module.functions.items()
        if function.same_as(call.kernel)
    }
    if len(kernels) != 1 or any(call is None for call in calls):
        raise UsageError(
            f"unit {unit} is no single PrimFunc, so no PrimFunc can take its place. Give a Python "
            f"callable: a kernel may be {ACCEPTED}"
        )
    [(name, kernel)] = kernels.items()
    return name, kernel


def programs(
    suite: Suite, target: Any, library: KernelLibrary, candidate: tirx.PrimFunc | None = None
) -> UnitPrograms:
    """Return the programs of a suite's only unit.

    Parameters
    ----------
    suite
        Of one unit.
    target
        The ``tvm.target.Target`` to build for.
    library
        Where kernels are kept.
    candidate
        Takes the place of the unit's kernel; None for that kernel.
    """
    [unit] = suite.manifest.units
    pipeline = None if candidate is None else _replacing(own_kernel(suite, unit)[0], candidate)
    return UnitPrograms(suite, target=target, pipeline=pipeline, library=library, units=(unit,))


def _replacing(name: str, kernel: tirx.PrimFunc) -> tvm.transform.Pass:
    """Return a pass that puts a kernel in the place of another one of the same interface."""

    @tvm.transform.module_pass(opt_level=0, name="ReplaceKernel")  # type: ignore[untyped-decorator]
    def replace(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
        if name not in {gvar.name_hint for gvar in module.functions}:
            return module
        gvar = module.get_global_var(name)
        own = module[gvar]
        placed = kernel.without_attr("global_symbol")
        if "global_symbol" in (own.attrs or {}):
            placed = placed.with_attr("global_symbol", own.attrs["global_symbol"])
        result = module.clone()
        result.update_func(gvar, placed)
        return result

    return replace
