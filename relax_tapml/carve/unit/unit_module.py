"""One operator call of a lowered module as a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, PrimType, TupleType

from relax_tapml._compat import StringImm
from relax_tapml.capture.cache_state import CacheState, Tokens
from relax_tapml.capture.values import (
    CallRecord,
    OpaqueValue,
    ParameterValue,
    TensorValue,
    Value,
)
from relax_tapml.carve.unit._kv_cache_case import CacheCase, emit_held, layer_of
from relax_tapml.errors import NotCarvableError
from relax_tapml.passes.cache_call import appends_to_cache, reads_cache
from relax_tapml.passes.operator_call import CallKind, OperatorCall, leaf_types, operator_call
from relax_tapml.passes.outline_runtime_callbacks import inline_runtime_callbacks
from relax_tapml.passes.submodule import submodule

_DPS_KINDS = {CallKind.TIR, CallKind.TIR_INPLACE, CallKind.DPS_PACKED}
_PACKED_KINDS = {CallKind.PURE_PACKED, CallKind.INPLACE_PACKED}


def case_function(
    lowered: tvm.IRModule,
    call: relax.Call,
    record: CallRecord,
    weight_type: Callable[[str], relax.TensorType],
) -> relax.Function:
    """Return a Relax function that does one recorded call and nothing else.

    Its parameters are the call's tensor arguments, leaf by leaf, with the shapes and dtypes they
    had; shapes, scalars and strings are baked in as they were. It returns a tuple of the call's
    outputs, leaf by leaf. ::

        lv2: R.Tensor((n, 4)) = R.call_tir(cls.scale, (lv1, n), out_ty=R.Tensor((n, 4)))
        # recorded with lv1 of shape (3, 4)
        @R.function
        def main(lv1: R.Tensor((3, 4))) -> R.Tuple(R.Tensor((3, 4))):
            out = R.call_tir(cls.scale, (lv1, R.prim_value(3)), out_ty=R.Tensor((3, 4)))
            return (out,)

    Parameters
    ----------
    lowered
        The module ``call`` is in; not changed.
    call
        An operator call in normal form.
    record
        One execution of it.
    weight_type
        Shape and dtype of a recorded parameter or constant, by name.

    Raises
    ------
    NotCarvableError
        The call takes an object or a function, returns something other than tensors, returns
        nothing, never returned, or the record does not fit the call.
    """
    found = operator_call(call, lowered)
    if found is None:
        raise NotCarvableError("it is not an operator call")
    if found.skip_reason is not None:
        raise NotCarvableError(found.skip_reason)
    if record.outputs is None:
        raise NotCarvableError("it never returned on the source")
    state: CacheState | None = None
    before: list[Tokens] = []
    after: list[Tokens] = []
    if reads_cache(found.unit):
        state = CacheState.of(record.inputs)
        before, after, record = state.split(record, is_appended=appends_to_cache(found.unit))
    arguments = _Arguments(record.inputs, weight_type)
    held = [
        (arguments.tensor("keys", one.keys), arguments.tensor("values", one.values))
        for one in before
    ]
    operands = [arguments.bind(arg) for arg in found.args[0 if state is None else 1 :]]
    arguments.finish()
    returned = _returned_type(call.ty, record.outputs or (), weight_type)

    builder = relax.BlockBuilder()
    is_pure = state is None and found.kind is not CallKind.PACKED
    with builder.function("main", arguments.params, pure=is_pure):
        if state is not None:
            cache = CacheCase(builder, lowered, state, layer_of(found.args[1]))
            operands = [emit_held(builder, o) if isinstance(o, relax.Var) else o for o in operands]
            operands[:1] = cache.emit_state(held)
        body = _rebuilt(call, found, operands, returned)
        leaves = list(_leaves(builder, builder.emit(body, "out")))
        if found.may_write:
            # A result that is an argument, written in place, would not outlive the call on every
            # device; a view of it does.
            types = leaf_types(returned)
            leaves = [
                builder.emit(_view(leaf, ty), "view")
                for leaf, ty in zip(leaves, types, strict=True)
            ]
        if state is not None:
            leaves += cache.emit_end(after)
        builder.emit_func_output(relax.Tuple(leaves))
    return builder.get()["main"]


def unit_module(lowered: tvm.IRModule, functions: Mapping[str, relax.Function]) -> tvm.IRModule:
    """Return the smallest module that holds ``functions`` and what they call in ``lowered``."""
    whole = lowered.clone()
    for gvar in lowered.functions:
        if gvar.name_hint in functions:
            del whole[gvar]
    for name, function in functions.items():
        gvar = GlobalVar(name)
        relax.expr._update_type(gvar, function.ty)
        whole.update_func(gvar, function.with_attr("global_symbol", name))
    unit = submodule(whole, functions)
    for gvar, function in unit.functions.items():
        if isinstance(function, relax.Function):
            unit.update_func(gvar, inline_runtime_callbacks(function, unit))
    return submodule(unit, functions)


class _Arguments:
    """Turns a call's arguments into parameters and literals, as recorded values are used up."""

    def __init__(
        self, values: Sequence[Value], weight_type: Callable[[str], relax.TensorType]
    ) -> None:
        self.params: list[relax.Var] = []
        self._values = iter(values)
        self._count = len(values)
        self._weight_type = weight_type
        self._names: set[str] = set()

    def bind(self, arg: relax.Expr) -> relax.Expr:
        if isinstance(arg, GlobalVar | relax.ExternFunc):
            raise NotCarvableError(f"it takes the function {_function_name(arg)} as an argument")
        name = arg.name if isinstance(arg, relax.Var) else "arg"
        return self._bind_type(arg, arg.ty, name)

    def _bind_type(self, arg: relax.Expr, ty: tvm.ir.Type, name: str) -> relax.Expr:
        if isinstance(arg, relax.Tuple):
            return relax.Tuple([self.bind(field) for field in arg.fields])
        if isinstance(ty, TupleType):
            return relax.Tuple([self._bind_type(arg, field, name) for field in ty.fields])
        try:
            value = next(self._values)
        except StopIteration:
            raise NotCarvableError(
                f"its capture holds {self._count} values, fewer than it has arguments"
            ) from None
        if isinstance(value, TensorValue):
            return self.tensor(name, value, ty)
        if isinstance(value, ParameterValue):
            return self._param(name, ty, self._weight_type(value.name))
        if isinstance(arg, tirx.IntImm | tirx.FloatImm | StringImm):
            return arg
        return _literal(value, ty)

    def tensor(
        self, name: str, value: TensorValue, declared: tvm.ir.Type | None = None
    ) -> relax.Var:
        """Return a new parameter for a recorded tensor."""
        return self._param(name, declared, relax.TensorType(value.shape, value.dtype))

    def _param(self, name: str, declared: tvm.ir.Type | None, ty: relax.TensorType) -> relax.Var:
        if isinstance(declared, relax.TensorType) and declared.dtype not in (None, ty.dtype):
            raise NotCarvableError(f"its capture holds {ty} for an argument of {declared}")
        unique, count = name, 0
        while unique in self._names:
            count += 1
            unique = f"{name}_{count}"
        self._names.add(unique)
        param = relax.Var(unique, ty)
        self.params.append(param)
        return param

    def finish(self) -> None:
        if next(self._values, None) is not None:
            raise NotCarvableError(
                f"its capture holds {self._count} values, more than it has arguments"
            )


def _literal(value: Value, ty: tvm.ir.Type) -> relax.Expr:
    dtype = ty.dtype if isinstance(ty, PrimType) else None
    match value:
        case tuple():
            return relax.ShapeExpr(value)
        case bool():
            return tirx.IntImm("bool", int(value))
        case int():
            return tirx.IntImm(dtype or "int64", value)
        case float():
            return tirx.FloatImm(dtype or "float64", value)
        case str():
            return StringImm(value)
        case None:
            return relax.op.null_value()
        case OpaqueValue():
            raise NotCarvableError(f"it takes an opaque {value.type_key}, which only its run has")
        case _:
            raise NotCarvableError(f"it takes a {type(value).__name__}, which cannot be replayed")


def _returned_type(
    ty: tvm.ir.Type,
    outputs: Sequence[Value],
    weight_type: Callable[[str], relax.TensorType],
) -> tvm.ir.Type:
    """Return the type of a call's result with the shapes that were recorded."""
    expected = len(leaf_types(ty))
    if expected == 0:
        raise NotCarvableError("it returns nothing to compare")
    if expected != len(outputs):
        raise NotCarvableError(f"its capture holds {len(outputs)} outputs, expected {expected}")
    remaining = iter(outputs)

    def concrete(ty: tvm.ir.Type) -> tvm.ir.Type:
        if isinstance(ty, TupleType):
            return TupleType([concrete(field) for field in ty.fields])
        value = next(remaining)
        if isinstance(value, ParameterValue):  # Derived from other weights.
            return weight_type(value.name)
        if not isinstance(value, TensorValue):
            raise NotCarvableError(f"it returns {ty}, expected tensors only")
        return relax.TensorType(value.shape, value.dtype)

    return concrete(ty)


def _rebuilt(
    call: relax.Call, found: OperatorCall, operands: list[relax.Expr], returned: tvm.ir.Type
) -> relax.Call:
    if found.kind in _DPS_KINDS:
        count = len(operands) - (len(call.args) - 2)
        args = [call.args[0], relax.Tuple(operands[:count]), *operands[count:]]
    elif found.kind in _PACKED_KINDS:
        args = [call.args[0], *operands]
    else:
        args = operands
    ty_args = [returned] if call.ty_args else []
    return relax.Call(call.op, args, attrs=call.attrs, ty_args=ty_args, span=call.span)


def _leaves(builder: relax.BlockBuilder, value: relax.Expr) -> Iterator[relax.Expr]:
    if not isinstance(value.ty, TupleType):
        yield value
        return
    for index in range(len(value.ty.fields)):
        yield from _leaves(builder, builder.emit(relax.TupleGetItem(value, index), "out"))


def _view(leaf: relax.Expr, ty: relax.TensorType) -> relax.Call:
    view = relax.ExternFunc("vm.builtin.reshape")
    return relax.op.call_pure_packed(view, leaf, ty.shape, ty_args=ty)


def _function_name(function: GlobalVar | relax.ExternFunc) -> str:
    return str(function.name_hint if isinstance(function, GlobalVar) else function.global_symbol)
