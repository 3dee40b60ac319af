"""Lower a model once, for both sides."""

from __future__ import annotations

from collections.abc import Collection

import tvm
from tvm import relax

from relax_tapml.errors import LoweringError
from relax_tapml.partition.fold_constants import FoldConstants
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.keep_origins import FuseOpsKeepingOrigins, KeepOrigins
from relax_tapml.passes.outline_dispatched_ops import OutlineDispatchedOps
from relax_tapml.passes.outline_handed_kernels import OutlineHandedKernels

# Operators that LegalizeOps lowers differently for a GPU; each side lowers them itself.
_TARGET_DEPENDENT = ["relax.scatter_elements", "relax.scatter_nd"]

# What makes units and sites of a module whose kernels are fused.
NAMING = (OutlineHandedKernels(), OutlineDispatchedOps(), AnnotateSites())


def lower(module: tvm.IRModule) -> tvm.IRModule:
    """Turn every operator call into a call of a unit, and name the sites.

    This is TVM's ``zero`` pipeline without anything that looks at a target, so both sides of a
    migration agree on what the units are. A module whose sites are already named is returned as
    it is: a pipeline of your own may lower and annotate first.

    Raises
    ------
    LoweringError
        A pass raised, or the module has no operator call at all.
    """
    if any(annotated_calls(module)):
        return module
    transform = relax.transform
    passes = [
        transform.LambdaLift(),
        KeepOrigins(transform.LegalizeOps(skip_ops=_TARGET_DEPENDENT)),
        transform.AnnotateTIROpPattern(),
        FoldConstants(),
        FuseOpsKeepingOrigins(),
        KeepOrigins(transform.FuseTIR()),
        transform.DeadCodeElimination(),
        *NAMING,
    ]
    for step in passes:
        try:
            module = step(module)
        except Exception as error:
            raise LoweringError(
                f"lowering the model: pass {step.info.name} failed: {_last_line(error)}. The "
                "module must be well-formed Relax that tvm.compile accepts"
            ) from error
    if not any(annotated_calls(module)):
        raise LoweringError(
            "lowering the model: no operator call is left in any Relax function; there is nothing "
            "to carve or migrate"
        )
    return module


def mark_inputs(module: tvm.IRModule, weights: Collection[str]) -> tvm.IRModule:
    """Say in the module which parameters of its public functions are weights.

    This is the attribute ``num_input``, which passes read. Functions that have it stay as they are;
    in others the last parameters are weights, those that ``weights`` names.
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


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
