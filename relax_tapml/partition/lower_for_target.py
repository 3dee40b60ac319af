"""Give one side its own implementation of the units."""

from __future__ import annotations

from collections.abc import Iterator

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.passes.operator_call import UNIT_ATTR, is_unit_function


def lower_for_target(
    lowered: tvm.IRModule,
    target: tvm.target.Target,
    pipeline: tvm.transform.Pass | None = None,
) -> tvm.IRModule:
    """Lower the target-dependent operators, then apply the side's own pass.

    Parameters
    ----------
    lowered
        From ``lower``; not changed.
    target
        The target of this side, which is the current target while ``pipeline`` runs.
    pipeline
        Gets the module before target schedules. For each unit it has a PrimFunc of the same name
        (an operator that the target computes with several PrimFuncs has them under other names).
        The module that it returns is built. A PrimFunc with the attribute ``tirx.is_scheduled`` is
        built as it is.

    Returns
    -------
    IRModule
        The units under the same GlobalVars as in ``lowered``, and whatever they call.

    Raises
    ------
    LoweringError
        A pass raised, or the result lost a unit.
    """
    side = dispatched(lowered, target)
    if pipeline is not None:
        side = applied(pipeline, side, target)
    lost = lost_functions(lowered, side)
    if lost:
        raise LoweringError(
            f"the side's pipeline returned a module without {', '.join(lost)}; it must keep the "
            "name of every function"
        )
    return rebound(side, lowered)


def dispatched(lowered: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Lower the target-dependent operators, so that each unit has a PrimFunc."""
    dispatch = tvm.transform.Sequential(
        [
            relax.backend.DispatchSampling(),
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(),
        ]
    )
    with target:
        side = _apply(dispatch, lowered, f"dispatch for {target.kind.name}")
        return _name_like_units(side)


def applied(
    pipeline: tvm.transform.Pass, side: tvm.IRModule, target: tvm.target.Target
) -> tvm.IRModule:
    """Apply a side's own pass to a module from ``dispatched``.

    Raises
    ------
    LoweringError
        It raised. For a ``Sequential``, the message names the pass that raised.
    """
    what = f"pipeline {pipeline.info.name!r}"
    with target:
        try:
            return _apply(pipeline, side, what)
        except LoweringError:
            if not isinstance(pipeline, tvm.transform.Sequential):
                raise
            module = side
            for one in flattened(pipeline):
                alone = tvm.transform.Sequential([one])
                module = _apply(alone, module, f"pass {one.info.name!r} of {what}")
            raise


def flattened(pipeline: tvm.transform.Pass) -> Iterator[tvm.transform.Pass]:
    """Yield the single passes of a pipeline: those of a ``Sequential``, or the pipeline itself."""
    if isinstance(pipeline, tvm.transform.Sequential):
        for one in pipeline.passes:
            yield from flattened(one)
    else:
        yield pipeline


def _apply(step: tvm.transform.Pass, module: tvm.IRModule, what: str) -> tvm.IRModule:
    try:
        result = step(module)
    except Exception as error:
        raise_machine_error(error, f"applying {what}")
        # TVM appends the whole module to an error in one of its passes.
        message = str(error).partition("\n\nError in pass:")[0].strip()
        raise LoweringError(f"{what} raised {type(error).__name__}: {message}") from error
    if not isinstance(result, tvm.IRModule):
        raise LoweringError(f"{what} returned {type(result).__name__}, expected an IRModule")
    return result


def _name_like_units(side: tvm.IRModule) -> tvm.IRModule:
    """Give the PrimFunc of a dispatched operator the name of its unit, if there is just one."""
    taken = {gvar.name_hint for gvar in side.functions}
    renamed: dict[GlobalVar, GlobalVar] = {}
    for function in side.functions.values():
        if not is_unit_function(function):
            continue
        unit = str(function.attrs[UNIT_ATTR])
        callees = list(relax.analysis.all_global_vars(function))
        if len(callees) == 1 and unit not in taken and isinstance(side[callees[0]], tirx.PrimFunc):
            renamed[callees[0]] = GlobalVar(unit)
            relax.expr._update_type(renamed[callees[0]], callees[0].ty)
    return _renamed(side, renamed)


def _renamed(side: tvm.IRModule, names: dict[GlobalVar, GlobalVar]) -> tvm.IRModule:
    """Rename functions, in their calls too, by replacing their GlobalVars."""
    if not names:
        return side
    renamer = _GlobalVars(names)
    functions = {}
    for gvar, function in side.functions.items():
        if isinstance(function, relax.Function):
            function = renamer.visit_expr(function)
        functions[names.get(gvar, gvar)] = function
    return tvm.IRModule(functions, attrs=side.attrs, global_infos=side.global_infos)


def lost_functions(before: tvm.IRModule, after: tvm.IRModule) -> list[str]:
    """Return the names of functions that a module no longer has, sorted."""
    kept = {gvar.name_hint for gvar in after.functions}
    return sorted(g.name_hint for g in before.functions if g.name_hint not in kept)


def rebound(side: tvm.IRModule, lowered: tvm.IRModule) -> tvm.IRModule:
    """Return the side's module with the GlobalVars of ``lowered`` for the same names."""
    own = {gvar.name_hint: gvar for gvar in side.functions}
    replaced = {
        own[gvar.name_hint]: gvar
        for gvar in lowered.functions
        if gvar.name_hint in own and not own[gvar.name_hint].same_as(gvar)
    }
    return _renamed(side, replaced)


@relax.expr_functor.mutator
class _GlobalVars(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, names: dict[GlobalVar, GlobalVar]) -> None:
        super().__init__()
        self._names = names

    def visit_global_var_(self, gvar: GlobalVar) -> relax.Expr:
        return self._names.get(gvar, gvar)
