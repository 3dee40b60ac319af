"""Constant folding that cannot end the process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op

from relax_tapml.errors import LoweringError
from relax_tapml.partition._value_dependence import deciding_params
from relax_tapml.passes.module_pass import ModulePass
from relax_tapml.processes.fork import ForkChannel, ForkFailed, ForkRetries, can_fork, collected

_CALL_TIR = Op.get("relax.call_tir")
_HOST = tvm.target.Target("llvm")


@tvm.transform.module_pass(opt_level=0, name="FoldConstant")
class FoldConstants(ModulePass):
    """Fold constants as ``relax.transform.FoldConstant`` does.

    That pass runs kernels on constants in this process, which crashes if a constant of the model is
    an index outside of its tensor. A kernel that may crash in this way is tried in a fork first.

    Raises
    ------
    LoweringError
        A kernel crashed.
    """

    def transform_module(
        self, module: tvm.IRModule, context: tvm.transform.PassContext
    ) -> tvm.IRModule:
        """Return the folded module."""
        del context
        fold = relax.transform.FoldConstant()
        risks = [
            risk
            for function in module.functions.values()
            if isinstance(function, relax.Function)
            for risk in _risks(module, function)
        ]
        if risks:
            try:
                collected(
                    lambda fork: _fold_all(fold, risks, fork),
                    ForkRetries("folding constants"),
                    is_safe=can_fork(_HOST),
                )
            except ForkFailed as death:
                raise LoweringError(
                    f"folding constants: kernel {death.at}, run on constants of the model, "
                    f"{death.text}: an index is outside its tensor, or a divisor is zero. Correct "
                    "the constant in the model"
                ) from None
        return fold(module)


def _fold_all(
    fold: tvm.transform.Pass, risks: Iterable[tuple[str, tvm.IRModule]], fork: ForkChannel
) -> None:
    for kernel, module in risks:
        fork.note(kernel)
        with suppress(Exception):  # It raises again where the whole module is folded.
            fold(module)


def _risks(module: tvm.IRModule, function: relax.Function) -> Iterator[tuple[str, tvm.IRModule]]:
    """Yield each kernel that may crash for some values and that is called with constants only.

    The module beside its name makes that call, with everything that the call needs.
    """
    constant: dict[Any, relax.VarBinding] = {}
    for block in getattr(function.body, "blocks", ()):
        for binding in block.bindings:
            if not isinstance(binding, relax.VarBinding):
                continue
            value = binding.value
            is_call = isinstance(value, relax.Call) and value.op == _CALL_TIR
            if not is_call and not isinstance(value, relax.Tuple | relax.TupleGetItem):
                continue
            if any(var not in constant for var in relax.analysis.free_vars(value)):
                continue
            constant[binding.var] = binding
            kernel = module[value.args[0]] if is_call else None
            if isinstance(kernel, tirx.PrimFunc) and deciding_params(kernel):
                yield value.args[0].name_hint, _alone(module, binding, constant)


def _alone(
    module: tvm.IRModule, last: relax.VarBinding, constant: Mapping[Any, relax.VarBinding]
) -> tvm.IRModule:
    """Return a module that computes one value, and everything that it is computed from."""
    wanted = {last.var}
    for var, binding in reversed(list(constant.items())):
        if var in wanted:
            wanted.update(relax.analysis.free_vars(binding.value))
    block = relax.BindingBlock([binding for var, binding in constant.items() if var in wanted])
    kernels = {g: f for g, f in module.functions.items() if isinstance(f, tirx.PrimFunc)}
    main = relax.Function([], relax.SeqExpr([block], last.var), last.var.ty)
    return tvm.IRModule({**kernels, GlobalVar("main"): main.with_attr("global_symbol", "main")})
