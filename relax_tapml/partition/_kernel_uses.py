"""Where the Relax functions of a module use its kernels, in words that do not name the kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op, PrimType, TupleType

from relax_tapml.passes.operator_call import (
    MAKE_CALLBACK,
    UNIT_ATTR,
    WRITES_ATTR,
    is_caller,
    is_unit_function,
)
from relax_tapml.passes.outline_runtime_callbacks import callback_kernels

_MAKE_CLOSURE = Op.get("relax.make_closure")
_WITH_CONTEXT = Op.get("relax.call_builtin_with_ctx")


# Where in a value a kernel is, through tuples, and its name.
_Held: TypeAlias = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class KernelUse:
    """A call that a kernel is an argument of.

    Parameters
    ----------
    place
        The function, how the arguments of the call are computed, and which of them the kernel is.
        Equal in two modules whose functions compute the same, whatever their kernels are.
    kernel
        Its name.
    receiver
        The function of the runtime that it is given to, which calls it later; empty for a kernel
        that the call itself runs.
    is_written
        Whether the call runs it by way of a unit that returns what it writes to.
    """

    place: str
    kernel: str
    receiver: str = ""
    is_written: bool = False


def kernel_uses(module: tvm.IRModule) -> list[KernelUse]:
    """Return every use of a kernel by a function that calls units, in program order.

    A unit of a dispatched operator has no kernel yet. One that was made for a kernel that writes to
    its arguments is used as that kernel.
    """
    uses: list[KernelUse] = []
    callbacks = callback_kernels(module)
    for gvar, function in module.functions.items():
        # The functions between the runtime and its kernels only call these.
        if is_caller(function) and gvar.name_hint not in callbacks:
            uses += _Values(module, callbacks, gvar.name_hint).uses_in(function)
    return uses


class _Values:
    """The values of a function, each known by how it is computed.

    A value's text says how it is computed from the parameters, by which operators, with types
    whose symbols are left out, and with ``kernel`` for the name of each kernel. Long texts are
    replaced by their digests.
    """

    def __init__(self, module: tvm.IRModule, callbacks: dict[str, str], name: str) -> None:
        self._module = module
        self._callbacks = callbacks
        self._name = name
        self._texts: dict[relax.Var, str] = {}
        # Kernels inside values that only hold them: closures, callbacks and tuples of these.
        self._held: dict[relax.Var, list[_Held]] = {}

    def uses_in(self, function: relax.Function) -> Iterator[KernelUse]:
        for number, param in enumerate(function.params):
            self._texts[param] = f"param {number} {_type_text(param.ty)}"
        yield from self._sequence(function.body)

    def _sequence(self, body: relax.Expr) -> Iterator[KernelUse]:
        if not isinstance(body, relax.SeqExpr):
            return
        for block in body.blocks:
            for binding in block.bindings:
                yield from self._binding(binding)

    def _binding(self, binding: relax.Binding) -> Iterator[KernelUse]:
        value = binding.value
        if isinstance(value, relax.If):
            cond = self._text(value.cond)
            for branch in (value.true_branch, value.false_branch):
                yield from self._sequence(branch)
            ends = [self._text(b.body) for b in (value.true_branch, value.false_branch)]
            self._texts[binding.var] = _short(f"if {cond} {ends}")
            return
        text = self._text(value)
        kernels = self._kernels(value)
        is_call = isinstance(value, relax.Call)
        if not is_call:
            self._held[binding.var] = kernels
        elif value.op == _MAKE_CLOSURE or self._makes_callback(value):
            self._held[binding.var] = [((), kernel) for _, kernel in kernels]
        else:
            for path, kernel in kernels:
                place = f"{self._name}: argument {'.'.join(map(str, path))} of {text}"
                is_written = isinstance(value.op, GlobalVar)
                yield KernelUse(place, kernel, _receiver(value), is_written=is_written)
        self._texts[binding.var] = text

    def _kernels(self, value: relax.Expr) -> list[_Held]:
        """Return the kernels that an expression refers to, directly or by what holds them."""
        if isinstance(value, relax.Var):
            return self._held.get(value, [])
        if isinstance(value, GlobalVar):
            name = value.name_hint
            if name in self._callbacks:
                return [((), self._callbacks[name])]
            kernel = _kernel_of(value, self._module)
            return [] if kernel is None else [((), kernel)]
        if isinstance(value, relax.TupleGetItem):
            held = self._kernels(value.tuple_value)
            return [(path[1:], kernel) for path, kernel in held if path[0] == value.index]
        if isinstance(value, relax.Tuple | relax.Call):
            parts = value.fields if isinstance(value, relax.Tuple) else [value.op, *value.args]
            return [
                ((number, *path), kernel)
                for number, part in enumerate(parts)
                for path, kernel in self._kernels(part)
            ]
        return []

    def _text(self, value: relax.Expr) -> str:
        if isinstance(value, relax.Var):
            return self._texts.get(value, "?")
        if isinstance(value, GlobalVar):
            return self._callee(value)
        if isinstance(value, relax.Tuple):
            return _short(f"({self._list(value.fields)})")
        if isinstance(value, relax.TupleGetItem):
            return _short(f"item {int(value.index)} of {self._text(value.tuple_value)}")
        if isinstance(value, relax.Call):
            if value.op == _MAKE_CLOSURE or self._makes_callback(value):
                return "callback"
            op = value.op.name if isinstance(value.op, Op) else self._text(value.op)
            attrs = "" if value.attrs is None else str(value.attrs)
            args = self._list(value.args)
            return _short(f"{op}({args}) {attrs} {_type_text(value.ty)}")
        if isinstance(value, relax.ExternFunc):
            return str(value.global_symbol)
        if isinstance(value, relax.ShapeExpr):
            return f"shape {len(value.values)}"
        if isinstance(value, tirx.IntImm | tirx.FloatImm):
            return f"{value.ty.dtype} {value.value}"
        return f"{type(value).__name__} {tvm_ffi.structural_hash(value)}"

    def _list(self, values: Sequence[relax.Expr]) -> str:
        return ", ".join(map(self._text, values))

    def _callee(self, gvar: GlobalVar) -> str:
        function: Any = self._module.functions.get(gvar)
        if _kernel_of(gvar, self._module) is not None:
            return "kernel"
        if function is not None and function.attrs and UNIT_ATTR in function.attrs:
            return f"unit {function.attrs[UNIT_ATTR]}"
        return f"function {gvar.name_hint}"

    def _makes_callback(self, call: relax.Call) -> bool:
        return bool(call.op == _WITH_CONTEXT and call.args[0].global_symbol == MAKE_CALLBACK)


def _kernel_of(gvar: GlobalVar, module: tvm.IRModule) -> str | None:
    """Return the kernel that a call of a function runs: itself, or the one that a unit is for."""
    function: Any = module.functions.get(gvar)
    if isinstance(function, tirx.PrimFunc):
        return str(gvar.name_hint)
    if is_unit_function(function) and WRITES_ATTR in function.attrs:
        unit = str(function.attrs[UNIT_ATTR])
        names = (callee.name_hint for callee in relax.analysis.all_global_vars(function))
        return unit if unit in names else None
    return None


def _receiver(call: relax.Call) -> str:
    """Return the function of the runtime that a call is of; empty for a call of a kernel."""
    for function in (call.op, *call.args[:1]):
        if isinstance(function, relax.ExternFunc):
            return str(function.global_symbol)
    return ""


def _type_text(ty: tvm.ir.Type) -> str:
    if isinstance(ty, TupleType):
        return f"({', '.join(map(_type_text, ty.fields))})"
    if isinstance(ty, relax.TensorType):
        if ty.shape is None or not isinstance(ty.shape, relax.ShapeExpr):
            return f"{ty.dtype}[{ty.ndim} dims]"
        extents = (str(int(e)) if isinstance(e, tirx.IntImm) else "?" for e in ty.shape.values)
        return f"{ty.dtype}[{', '.join(extents)}]"
    if isinstance(ty, PrimType):
        return str(ty.dtype)
    return type(ty).__name__


def _short(text: str) -> str:
    return text if len(text) < 64 else hashlib.sha256(text.encode()).hexdigest()[:32]
