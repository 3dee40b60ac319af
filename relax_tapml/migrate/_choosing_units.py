"""Units that choose by a score: argmax, top-k, argsort, and kernels that do so inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import tvm
from tvm import relax, tirx
from tvm.ir import Op

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive.choice_derivation import ChoiceDerivation, derivation_of
from relax_tapml.derive.operators import operator_tolerances
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import CallKind, leaf_types, operator_call

_OPERATORS = ("relax.argsort", "relax.topk")

Judge = Callable[[Sequence[Array], Sequence[Array], Sequence[Array]], list[Tolerance]]
"""From inputs, how far each of these may be off, and outputs of the source, to tolerances."""


def choosing_units(lowered: tvm.IRModule) -> dict[str, Judge]:
    """Return the units that choose by a score, each with what judges what it returns.

    Units whose calls take anything but tensors are left out: their choices are compared as they
    are.
    """
    found: dict[str, Judge] = {}
    for site, call in annotated_calls(lowered):
        if site.unit in found:
            continue
        operator = operator_call(call, lowered)
        if operator is None or not _has_tensors_only([*operator.args, call]):
            continue
        judge: Judge | None = None
        if operator.kind is CallKind.TIR:
            judge = _of_kernel(lowered[call.args[0]], len(operator.args))
        elif operator.kind is CallKind.FUNCTION:
            judge = _of_operator(lowered[call.op])
        if judge is not None:
            found[site.unit] = judge
    return found


def _has_tensors_only(values: Sequence[relax.Expr]) -> bool:
    return all(isinstance(ty, relax.TensorType) for v in values for ty in leaf_types(v.ty))


def _of_kernel(kernel: tvm.ir.BaseFunc, inputs: int) -> Judge | None:
    if not isinstance(kernel, tirx.PrimFunc):
        return None
    results = range(inputs, len(kernel.params))
    derivation = derivation_of(kernel, results, is_perturbed=True)
    if not isinstance(derivation, ChoiceDerivation):
        return None

    def judge(
        arrays: Sequence[Array], slack: Sequence[Array], outputs: Sequence[Array]
    ) -> list[Tolerance]:
        return derivation.tolerances(dict(enumerate(arrays)), {}, outputs, dict(enumerate(slack)))

    return judge


def _of_operator(unit: tvm.ir.BaseFunc) -> Judge | None:
    if not isinstance(unit, relax.Function):
        return None
    values = [binding.value for block in unit.body.blocks for binding in block.bindings]
    calls = [value for value in values if isinstance(value, relax.Call)]
    if len(calls) != 1 or not isinstance(calls[0].op, Op) or calls[0].op.name not in _OPERATORS:
        return None
    (call,) = calls
    if not unit.params or not call.args[0].same_as(unit.params[0]):
        return None

    def judge(
        arrays: Sequence[Array], slack: Sequence[Array], outputs: Sequence[Array]
    ) -> list[Tolerance]:
        found = operator_tolerances(call, arrays, outputs) or []
        return [
            replace(item, slack=slack[0]) if isinstance(item, IndexTolerance) else item
            for item in found
        ]

    return judge
