"""A module after a side's own pass: the kernels of its units, and the module as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.errors import LoweringError
from relax_tapml.partition.kernel_library import unit_kernels
from relax_tapml.partition.lower_for_target import applied, dispatched, rebound
from relax_tapml.partition.target_kernels import SAME, TargetKernels
from relax_tapml.passes.operator_call import UNIT_ATTR, is_caller, is_unit_function


@dataclass(frozen=True, kw_only=True)
class DeviceSide:
    """A module as a side's pass returned it, separated into units and whole module.

    Parameters
    ----------
    units
        The Relax functions that call units as they were given to the pass, and each unit as the
        pass returned it. Hybrids and replays are built from it.
    graph
        The whole module as the pass returned it; None if it changed nothing but units.
    changed
        Names of the Relax functions that call units and that the pass changed, or added.
    unjudged
        Unit to the reason why it cannot be tested alone. It is not in ``units``.
    """

    units: tvm.IRModule
    graph: tvm.IRModule | None = None
    changed: tuple[str, ...] = ()
    unjudged: dict[str, str] = field(default_factory=dict)


def device_side(
    lowered: tvm.IRModule,
    target: tvm.target.Target,
    pipeline: tvm.transform.Pass | None = None,
    kernels: TargetKernels = SAME,
) -> DeviceSide:
    """Lower the target-dependent parts, apply the side's own pass, and separate its result.

    A pass may change the Relax functions that call units: fuse calls, add or rename kernels, call
    them in another way. A unit that it has removed, or of which it has changed both the kernel and
    the calls, computes something else than its recorded calls. It is judged with the whole module
    only.

    Parameters
    ----------
    lowered
        From ``lower``, or functions that call its units; not changed.
    target, pipeline
        As for ``lower_for_target``.
    kernels
        Those that the model has for the target in the place of its own. The pass gets a module with
        them.

    Raises
    ------
    LoweringError
        The pass raised, or a function that it returned calls one that it did not return.
    """
    plain = rebound(dispatched(kernels.applied(lowered), target), lowered)
    lacking = {unit: why for unit, why in kernels.lacking.items() if unit in unit_roots(plain)}
    if pipeline is None:
        return DeviceSide(units=_kept(plain, plain, lacking), unjudged=lacking)
    returned = applied(pipeline, plain, target)
    _check_callees(returned, pipeline)
    whole = rebound(returned, plain)
    changed = changed_callers(plain, whole)
    if not changed:
        return DeviceSide(units=_kept(plain, whole, lacking), unjudged=lacking)
    unjudged = {**_unjudged(plain, whole, str(pipeline.info.name)), **lacking}
    return DeviceSide(
        units=_kept(plain, whole, unjudged), graph=returned, changed=changed, unjudged=unjudged
    )


def _kept(plain: tvm.IRModule, whole: tvm.IRModule, unjudged: Mapping[str, str]) -> tvm.IRModule:
    """Return the callers of ``plain`` with the units of ``whole`` that can be judged alone."""
    if not unjudged and not changed_callers(plain, whole):
        return whole
    kept = [name for unit, name in unit_roots(plain).items() if unit not in unjudged]
    functions = {g: f for g, f in plain.functions.items() if is_caller(f)}
    functions.update(reached(whole, kept))
    return tvm.IRModule(functions, attrs=plain.attrs, global_infos=whole.global_infos)


def changed_callers(before: tvm.IRModule, after: tvm.IRModule) -> tuple[str, ...]:
    """Return the functions that call units and that differ, ``after`` having new ones too.

    Parameters
    ----------
    before, after
        With the same GlobalVars for the same names.
    """
    return tuple(
        name for name in changed_functions(before, after) if _calls_units(before, after, name)
    )


def changed_functions(before: tvm.IRModule, after: tvm.IRModule) -> tuple[str, ...]:
    """Return the names of all functions that differ, in the order of ``before``, new ones last."""
    own = {gvar.name_hint: function for gvar, function in after.functions.items()}
    names = []
    for gvar, function in before.functions.items():
        other = own.pop(gvar.name_hint, None)
        if other is None or not _is_equal(function, other):
            names.append(gvar.name_hint)
    return (*names, *own)


def reached(module: tvm.IRModule, names: list[str]) -> dict[GlobalVar, tvm.ir.BaseFunc]:
    """Return functions and everything that they call, in the order of the module."""
    pending = [module.get_global_var(name) for name in names]
    found: set[GlobalVar] = set()
    while pending:
        gvar = pending.pop()
        if gvar not in found:
            found.add(gvar)
            pending += callees(module[gvar])
    return {gvar: function for gvar, function in module.functions.items() if gvar in found}


def callees(function: tvm.ir.BaseFunc) -> list[GlobalVar]:
    """Return the functions that one refers to."""
    found: list[GlobalVar] = []
    tvm_ffi.structural_walk(function, (GlobalVar, found.append))
    return found


def _calls_units(before: tvm.IRModule, after: tvm.IRModule, name: str) -> bool:
    sides = (before, after)
    return any(name in _names(side) and is_caller(side[name]) for side in sides)


def _names(module: tvm.IRModule) -> set[str]:
    return {gvar.name_hint for gvar in module.functions}


def _is_equal(a: tvm.ir.BaseFunc, b: tvm.ir.BaseFunc) -> bool:
    if a.same_as(b):
        return True
    if not (isinstance(a, tirx.PrimFunc) and isinstance(b, tirx.PrimFunc)):
        # Callees are free variables, too, and must be the same functions.
        return bool(tvm_ffi.structural_equal(a, b, map_free_vars=False))
    # A pass may add a kernel's own name to it as an attribute, which changes nothing.
    pair = [function.without_attr("global_symbol") for function in (a, b)]
    return bool(tvm_ffi.structural_equal(*pair, map_free_vars=True))


def unit_roots(module: tvm.IRModule) -> dict[str, str]:
    """Map each unit to the function that it is called by."""
    roots = {unit: unit for unit in unit_kernels(module)}
    for gvar, function in module.functions.items():
        if is_unit_function(function):
            roots[str(function.attrs[UNIT_ATTR])] = gvar.name_hint
    return roots


def _check_callees(module: tvm.IRModule, pipeline: tvm.transform.Pass) -> None:
    for gvar, function in module.functions.items():
        lost = sorted({c.name_hint for c in callees(function)} - _names(module))
        if lost:
            raise LoweringError(
                f"pipeline {pipeline.info.name!r} returned a module without {', '.join(lost)}, "
                f"which its {gvar.name_hint} calls; it must keep every function that is called"
            )


def _unjudged(plain: tvm.IRModule, whole: tvm.IRModule, pipeline: str) -> dict[str, str]:
    names = _names(whole)
    before: Counter[tuple[str, str, str]] | None = None
    after: Counter[tuple[str, str, str]] | None = None
    reasons: dict[str, str] = {}
    for unit, root in unit_roots(plain).items():
        if root not in names:
            reasons[unit] = (
                f"the device's pipeline ({pipeline}) replaced it; the replacement is judged with "
                "the whole module only"
            )
            continue
        old, new = reached(plain, [root]), reached(whole, [root])
        if old.keys() == new.keys() and all(_is_equal(old[g], new[g]) for g in old):
            continue
        if before is None or after is None:
            before, after = Counter(_calls(plain)), Counter(_calls(whole))
        if {c: n for c, n in before.items() if c[1] == root} != {
            c: n for c, n in after.items() if c[1] == root
        }:
            reasons[unit] = (
                f"the device's pipeline ({pipeline}) changed both its kernel and the calls of it; "
                "it is judged with the whole module only"
            )
    return reasons


def _calls(module: tvm.IRModule) -> Iterator[tuple[str, str, str]]:
    """Yield calling function, callee, and the call as text, of every call of a unit."""
    for gvar, function in module.functions.items():
        if not is_caller(function):
            continue
        calls: list[relax.Call] = []
        relax.analysis.post_order_visit(
            function,
            lambda node, calls=calls: calls.append(node) if isinstance(node, relax.Call) else None,
        )
        for call in calls:
            for callee in {c.name_hint for c in callees(call) if isinstance(c, GlobalVar)}:
                yield gvar.name_hint, callee, str(call)
