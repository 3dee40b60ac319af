"""What a Relax call is, and which values it reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import tvm
from tvm import relax
from tvm.ir import GlobalVar, Op, TupleType

UNIT_ATTR = "relax_tapml.unit"
"""Function attribute: the unit name of a private Relax function that stands for one operator."""

WRITES_ATTR = "relax_tapml.writes"
"""Function attribute: the unit changes its arguments in place, and returns those it changes."""

CASE_KERNEL_ATTR = "relax_tapml.case_kernel"
"""Attribute of a kernel that belongs to the cases of a unit, and is none of the model's."""

MAKE_CALLBACK = "relax_tapml.runtime_callback.make"
"""Takes the VM and a closure, returns a function that the runtime can call."""

STORE_RESULT = "relax_tapml.runtime_callback.store"
"""Takes two tensors and copies the second to the first, unless both share their memory."""


class CallKind(StrEnum):
    """How an operator is called."""

    TIR = "call_tir"
    TIR_INPLACE = "call_tir_inplace"
    DPS_PACKED = "call_dps_packed"
    PURE_PACKED = "call_pure_packed"
    INPLACE_PACKED = "call_inplace_packed"
    PACKED = "call_packed"
    FUNCTION = "function"
    OPERATOR = "operator"
    OPAQUE = "opaque"


@dataclass(frozen=True, kw_only=True)
class OperatorCall:
    """One operator call: what is called, with which arguments.

    Parameters
    ----------
    kind
        How it is called.
    unit
        Name of what is called: a PrimFunc, a unit function, an external function, an operator.
    args
        The values it takes, in order; a trailing ``ShapeExpr`` of ``call_tir`` counts as one.
    may_write
        Whether it may change its arguments in place.
    skip_reason
        Why the operator can be neither captured nor moved, or None.
    """

    kind: CallKind
    unit: str
    args: tuple[relax.Expr, ...]
    may_write: bool = False
    skip_reason: str | None = None


_TIR_KINDS = {
    "relax.call_tir": CallKind.TIR,
    "relax.call_tir_inplace": CallKind.TIR_INPLACE,
    "relax.call_dps_packed": CallKind.DPS_PACKED,
}
_PACKED_KINDS = {
    "relax.call_pure_packed": CallKind.PURE_PACKED,
    "relax.call_inplace_packed": CallKind.INPLACE_PACKED,
}
_WRITING = {CallKind.TIR_INPLACE, CallKind.INPLACE_PACKED, CallKind.PACKED}
_CLOSURE = "it calls a closure; the operators are those of the function it is made of"
# Operators whose work is hidden from the module: they are reported, never ignored.
_OPAQUE = {
    "relax.call_builtin_with_ctx": "its body is in the runtime",
    "relax.call_py_func": "it calls back into Python",
    "relax.call_tir_with_grad": "gradients are not supported; legalise it first",
    "relax.dist.call_tir_local_view": "distributed modules are not supported",
    "relax.invoke_closure": _CLOSURE,
    "relax.invoke_pure_closure": _CLOSURE,
}
# Operators that compute no tensor: bookkeeping of the compiler and the VM.
_BOOKKEEPING = {
    "relax.assert_op",
    "relax.hint_on_device",
    "relax.make_closure",
    "relax.null_value",
    "relax.print",
    "relax.shape_of",
    "relax.shape_to_tensor",
    "relax.tensor_to_shape",
    "relax.to_vdevice",
}
_BOOKKEEPING_PREFIXES = ("relax.builtin.", "relax.inspect.", "relax.memory.", "relax.vm.")


def operator_call(call: relax.Call, module: tvm.IRModule) -> OperatorCall | None:
    """Return which operator a call is; None if it is not an operator call.

    A call of an ordinary Relax function is not one: the operators are the calls inside it.
    """
    op = call.op
    if isinstance(op, GlobalVar):
        return _function_call(call, op, module)
    if isinstance(op, relax.ExternFunc):
        if op.global_symbol == STORE_RESULT:
            return None
        return OperatorCall(
            kind=CallKind.PACKED, unit=op.global_symbol, args=tuple(call.args), may_write=True
        )
    if not isinstance(op, Op):
        return OperatorCall(
            kind=CallKind.OPAQUE,
            unit=getattr(op, "name_hint", "closure"),
            args=tuple(call.args),
            may_write=True,
            skip_reason="it calls a closure; apply relax.transform.LambdaLift first",
        )
    name = op.name
    if name in _TIR_KINDS:
        callee, operands, *rest = call.args
        args = tuple(operands.fields) if isinstance(operands, relax.Tuple) else (operands,)
        kind = _TIR_KINDS[name]
        return OperatorCall(
            kind=kind, unit=_name(callee), args=(*args, *rest), may_write=kind in _WRITING
        )
    if name in _PACKED_KINDS:
        callee, *operands = call.args
        kind = _PACKED_KINDS[name]
        return OperatorCall(
            kind=kind, unit=_name(callee), args=tuple(operands), may_write=kind in _WRITING
        )
    if name == "relax.call_builtin_with_ctx" and _name(call.args[0]) == MAKE_CALLBACK:
        return None
    if name in _BOOKKEEPING or name.startswith(_BOOKKEEPING_PREFIXES):
        return None
    reason = _OPAQUE.get(name)
    if name.startswith("relax.ccl."):
        reason = "collectives are not supported"
    return OperatorCall(
        kind=CallKind.OPERATOR if reason is None else CallKind.OPAQUE,
        unit=name.removeprefix("relax."),
        args=tuple(call.args),
        may_write=reason is not None,
        skip_reason=reason,
    )


def may_write(call: relax.Call, found: OperatorCall | None) -> bool:
    """Return whether a call, of which ``operator_call`` returned ``found``, may write to values."""
    if found is not None:
        return found.may_write
    # A subroutine may contain anything; bookkeeping operators write nothing.
    return isinstance(call.op, GlobalVar | relax.Var)


def operator_functions(mod: tvm.IRModule) -> Iterator[tuple[GlobalVar, relax.Function]]:
    """Yield the functions that call units."""
    for gvar, function in mod.functions.items():
        if is_caller(function):
            yield gvar, function


def is_caller(function: tvm.ir.BaseFunc) -> bool:
    """Return whether a function is one that calls units, rather than a unit or part of a unit."""
    return isinstance(function, relax.Function) and not is_unit_function(function)


def is_unit_function(function: tvm.ir.BaseFunc) -> bool:
    """Return whether a function stands for one operator rather than containing several."""
    return isinstance(function, relax.Function) and bool(
        function.attrs and UNIT_ATTR in function.attrs
    )


def leaf_types(ty: tvm.ir.Type) -> list[tvm.ir.Type]:
    """Flatten a possibly nested tuple type, left to right."""
    if isinstance(ty, TupleType):
        return [leaf for field in ty.fields for leaf in leaf_types(field)]
    return [ty]


def has_run_time_shape(ty: tvm.ir.Type) -> bool:
    """Return whether a tensor's shape is a run-time value, rather than dimensions or unknown."""
    return isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.Var)


def _name(callee: relax.Expr) -> str:
    return str(callee.name_hint if isinstance(callee, GlobalVar) else callee.global_symbol)


def _function_call(call: relax.Call, gvar: GlobalVar, module: tvm.IRModule) -> OperatorCall | None:
    function = module.functions.get(gvar)
    if function is None or not is_unit_function(function):
        return None
    return OperatorCall(
        kind=CallKind.FUNCTION,
        unit=str(function.attrs[UNIT_ATTR]),
        args=tuple(call.args),
        may_write=WRITES_ATTR in function.attrs,
    )
