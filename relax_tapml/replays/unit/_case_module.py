"""The functions that do cases, with the units as a prepared module implements them."""

from __future__ import annotations

from collections.abc import Collection

import tvm
from tvm import relax
from tvm.ir import GlobalVar

from relax_tapml.passes.submodule import retarget_calls, submodule


def case_module(
    module: tvm.IRModule, units: Collection[str], side: tvm.IRModule, cases: Collection[str]
) -> tvm.IRModule:
    """Return the functions that do cases, with the operators that they call taken from a side.

    Parameters
    ----------
    module
        Units of a suite, after ``dispatched``: what the suite holds, and what dispatch added.
    units
        Names of the units in it, and of what these call; all of which ``side`` has.
    side
        The model's module as it was prepared for the target, under the model's names.
    cases
        Names of the functions that do the cases.
    """
    kept = submodule(side, units)
    taken = {gvar.name_hint: gvar for gvar in kept.functions}
    functions = dict(kept.functions.items())
    callees = {name: taken[name] for name in units}
    others = {g: f for g, f in module.functions.items() if g.name_hint not in callees}
    for gvar in others:
        # Dispatch may have given a function of its own a name that means another one in the side.
        name = gvar.name_hint
        callees[name] = GlobalVar(f"{name}_of_case" if name in taken else name)
        relax.expr._update_type(callees[name], gvar.ty)
    for gvar, function in others.items():
        functions[callees[gvar.name_hint]] = retarget_calls(function, callees)
    whole = tvm.IRModule(functions, attrs=module.attrs, global_infos=side.global_infos)
    return submodule(whole, cases)
