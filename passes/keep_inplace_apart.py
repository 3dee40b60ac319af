"""Keep kernels that write to their arguments, and kernels that must run before, out of fusion."""

from __future__ import annotations

from collections.abc import Iterator

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op

from ._rewriting import with_functions
from .module_pass import ModulePass
from .value_leaves import Leaf, ValueLeaves, bindings_in

_TIR = Op.get("relax.call_tir")
_TIR_INPLACE = Op.get("relax.call_tir_inplace")
_PACKED_INPLACE = Op.get("relax.call_inplace_packed")
_PATTERN = "op_pattern"
_OPAQUE = 8


@tvm.transform.module_pass(opt_level=0, name="KeepInplaceApart")
class KeepInplaceApart(ModulePass):
    """Mark kernels as opaque that ``FuseOps`` must not fuse, because a value is overwritten.

    ``FuseTIR`` turns a fused ``call_tir_inplace`` into a plain ``call_tir``, whose kernel then
    writes to its read-only input. And ``FuseOps`` moves an operator to the place where it is fused,
    which may be after a call that overwrites the operator's input. So the kernels of
    ``call_tir_inplace`` are not fused, nor are those that read a value before it is overwritten.

    Run after ``AnnotateTIROpPattern``, before ``FuseOps``. ::

        k = R.call_tir(cls.exp, (h,), ...)                                # op_pattern 0
        q = R.call_tir_inplace(cls.square, (h,), inplace_indices=[0])     # op_pattern 0
        y = R.call_tir(cls.add, (q, k), ...)                              # op_pattern 0
        # after: op_pattern 8 for exp and square, 0 for add

    A module in which nothing is overwritten is returned as it is; applied twice the pass changes
    nothing more.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        kernels = dict.fromkeys(
            gvar
            for function in mod.functions.values()
            if isinstance(function, relax.Function)
            for gvar in _kept(function)
            if isinstance(mod[gvar], tirx.PrimFunc)
        )
        found = [gvar for gvar in kernels if _pattern(mod[gvar]) != _OPAQUE]
        return with_functions(mod, {gvar: mod[gvar].with_attr(_PATTERN, _OPAQUE) for gvar in found})


def _kept(function: relax.Function) -> Iterator[GlobalVar]:
    """Yield the kernels of a function that write in place, or must run before one that does."""
    leaves = ValueLeaves()
    # The value whose memory a result is stored in.
    memory: dict[Leaf, Leaf] = {}
    readers: list[tuple[GlobalVar, set[Leaf]]] = []
    for binding in bindings_in(function.body):
        call = binding.value
        if leaves.bind(binding) or not isinstance(call, relax.Call):
            continue
        if call.op == _TIR:
            operands = leaves.of(call.args[1])
            readers.append((call.args[0], {memory.get(leaf, leaf) for leaf in operands}))
        elif call.op in (_TIR_INPLACE, _PACKED_INPLACE):
            is_tir = call.op == _TIR_INPLACE
            operands = list(call.args[1].fields) if is_tir else list(call.args[1:])
            results = leaves.of(binding.var)
            overwritten = set()
            for result, index in zip(results, call.attrs.inplace_indices, strict=False):
                if index >= 0:
                    for leaf in leaves.of(operands[int(index)])[:1]:
                        memory[result] = memory.get(leaf, leaf)
                        overwritten.add(memory[result])
            if is_tir:
                yield call.args[0]
            yield from (gvar for gvar, read in readers if read & overwritten)


def _pattern(function: tvm.ir.BaseFunc) -> int | None:
    attrs = function.attrs or {}
    return int(attrs[_PATTERN]) if _PATTERN in attrs else None
