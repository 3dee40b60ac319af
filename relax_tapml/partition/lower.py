"""Lower a model once, for both sides."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar

from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.partition._fold_constants import FoldConstants
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.correct_tree_kernels import CorrectTreeKernels
from relax_tapml.passes.keep_inplace_apart import KeepInplaceApart
from relax_tapml.passes.keep_origins import FuseOpsKeepingOrigins, KeepOrigins
from relax_tapml.passes.notes import Note, notes_of, with_notes
from relax_tapml.passes.outline_dispatched_ops import OutlineDispatchedOps
from relax_tapml.passes.outline_runtime_callbacks import OutlineRuntimeCallbacks
from relax_tapml.printable import message_line

# Operators that LegalizeOps lowers differently for a GPU; each side lowers them itself.
_TARGET_DEPENDENT = ["relax.scatter_elements", "relax.scatter_nd"]
_log = logging.getLogger(__name__)

# The passes that make units and sites of a module whose kernels are already fused.
NAMING = (CorrectTreeKernels(), OutlineRuntimeCallbacks(), OutlineDispatchedOps(), AnnotateSites())

Passes = tuple[tvm.transform.Pass, ...]


def lower(module: tvm.IRModule) -> tvm.IRModule:
    """Turn every operator call into a call of a unit, and name the sites.

    This is TVM's ``zero`` pipeline without the passes that depend on a target, so both sides of a
    migration have the same units. A module whose sites are already named is returned as it is: a
    pipeline of your own may lower and annotate it first.

    A pass that only makes the module faster may fail: the module then stays as it was before the
    pass, and ``lowering_notes`` has the reason.

    Raises
    ------
    LoweringError
        A pass that is needed to make units raised, or the module has no operator call at all.
    """
    if any(annotated_calls(module)):
        return module
    transform = relax.transform
    notes: list[Note] = []
    module = _needed(module, transform.LambdaLift())
    module = _needed(module, KeepOrigins(transform.LegalizeOps(skip_ops=_TARGET_DEPENDENT)))
    module = _optional(module, (transform.AnnotateTIROpPattern(),), notes)
    module = _needed(module, KeepInplaceApart())
    module = _folded(module, notes)
    # FuseOps alone leaves functions that are not units, so both passes are applied or none.
    fuse = (FuseOpsKeepingOrigins(), KeepOrigins(transform.FuseTIR()))
    for steps in (fuse, (transform.DeadCodeElimination(),)):
        module = _optional(module, steps, notes)
    for step in NAMING:
        module = _needed(module, step)
    if not any(annotated_calls(module)):
        raise LoweringError(
            "lowering the model: no Relax function has an operator call, so there is nothing to "
            "carve or migrate. Check the model's entry function"
        )
    return with_notes(module, notes)


def lowering_notes(lowered: tvm.IRModule) -> list[Note]:
    """Return a note for each optional pass that failed, and for what was set right."""
    return notes_of(lowered)


def _needed(module: tvm.IRModule, step: tvm.transform.Pass) -> tvm.IRModule:
    try:
        return step(module)
    except Exception as error:
        raise_machine_error(error, "lowering the model")
        raise LoweringError(
            f"lowering the model: pass {step.info.name} failed: {message_line(error, -1)}. The "
            "module must be well-formed Relax that tvm.compile accepts"
        ) from error


def _optional(module: tvm.IRModule, steps: Passes, notes: list[Note]) -> tvm.IRModule:
    """Apply passes that only make the module faster: all of them, or none if one fails."""
    changed = module
    for step in steps:
        try:
            changed = step(changed)
        except Exception as error:
            raise_machine_error(error, "lowering the model")
            _note(notes, step, "the model", error)
            return module
    return changed


def _folded(module: tvm.IRModule, notes: list[Note]) -> tvm.IRModule:
    """Fold constants; if that fails, function by function, so that only some are not folded."""
    step: tvm.transform.Pass = FoldConstants()
    try:
        return step(module)
    except Exception as error:  # The loop below finds the function that fails.
        raise_machine_error(error, "lowering the model")
        out = module.clone()
    for gvar, alone in _each_function(module):
        try:
            changed = step(alone)
        except Exception as error:
            raise_machine_error(error, "lowering the model")
            _note(notes, step, f"function {gvar.name_hint}", error)
        else:
            out.update_func(gvar, changed[gvar.name_hint])
    return out


def _each_function(module: tvm.IRModule) -> Iterator[tuple[GlobalVar, tvm.IRModule]]:
    """Yield each Relax function in a module with the kernels and no other Relax function."""
    kernels = {g: f for g, f in module.functions.items() if isinstance(f, tirx.PrimFunc)}
    for gvar, function in module.functions.items():
        if isinstance(function, relax.Function):
            yield gvar, tvm.IRModule({**kernels, gvar: function}, attrs=module.attrs)


def _note(notes: list[Note], step: tvm.transform.Pass, where: str, error: Exception) -> None:
    text = f"pass {step.info.name} failed on {where} and was left out: {message_line(error, -1)}"
    _log.warning("lowering the model: %s", text)
    notes.append(Note(text))


def mark_inputs(module: tvm.IRModule, weights: Collection[str]) -> tvm.IRModule:
    """Mark in the module which parameters of its public functions are weights.

    The mark is the attribute ``num_input``, which passes read. Functions that have it stay as they
    are. In others, the last parameters are weights if ``weights`` has their names.
    """
    module = module.clone()
    for gvar, function in module.functions.items():
        attrs = function.attrs or {}
        is_entry = isinstance(function, relax.Function) and "global_symbol" in attrs
        if is_entry and "num_input" not in attrs:
            names = [var.name for var in function.params]
            while names and names[-1] in weights:
                names.pop()
            module.update_func(gvar, function.with_attr("num_input", len(names)))
    return module
