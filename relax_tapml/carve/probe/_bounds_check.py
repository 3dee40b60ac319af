"""Whether a call stays inside its tensors, found by running its integers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.arrays import Array
from relax_tapml.capture.host_tensor import tensor_of
from relax_tapml.kernel_flow.expressions import (
    DIVISIONS,
    choice_of,
    is_float_expr,
    loaded_buffers,
    loads,
    nodes,
)

_ENTRY = "check"
_TARGET = {"kind": "llvm", "opt-level": 1}


class UncheckedError(Exception):
    """Where a PrimFunc reads and writes cannot be followed, for the reason in the message."""


class BoundsCheck:
    """A PrimFunc that only finds out where another one reads and writes.

    Every index that depends on data is compared with the extent of its axis, every divisor with
    zero; then what would be outside is taken inside, so that the check itself is safe. Where data
    decide what is written to, writes are counted: two to one place depend on their order. Floats
    are left out, so an index that depends on one is not followed.

    Parameters
    ----------
    function
        Of loops and stores, see ``plain_kernel``.
    results
        Numbers of its parameters that hold results.

    Raises
    ------
    UncheckedError
        It does something that is not followed.
    Exception
        Whatever TVM raises about building the check.
    """

    def __init__(self, function: tirx.PrimFunc, results: Sequence[int]) -> None:
        self._count = len(function.params)
        self._results = list(results)
        checker = _Checker(function)
        checked = checker.function()
        self._counted = [list(function.params).index(buffer) for buffer in checker.counts]
        built = tvm.tirx.build(tvm.IRModule({_ENTRY: checked}), target=_TARGET)
        self._run = built[_ENTRY]

    def is_inside(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
    ) -> bool:
        """Return whether a call stays inside its tensors and has one result.

        It does not divide by zero, and writes to no place twice where data decide where.

        Parameters
        ----------
        arguments
            Tensor arguments by number of the parameter, results apart.
        scalars
            Numbers.
        like
            Arrays of the dtypes and shapes of the results.
        """
        outputs = dict(zip(self._results, like, strict=True))
        passed: list[Any] = []
        for number in range(self._count):
            if number in scalars:
                passed.append(scalars[number])
            elif number in outputs:
                passed.append(tvm.runtime.tensor(np.zeros_like(outputs[number])))
            else:
                passed.append(tensor_of(arguments[number]))
        found = tvm.runtime.tensor(np.zeros(1, np.int32))
        counts = [
            tvm.runtime.tensor(np.zeros(outputs[number].shape, np.int32))
            for number in self._counted
        ]
        self._run(*passed, found, *counts)
        is_twice = any((count.numpy() > 1).any() for count in counts)
        return not found.numpy().any() and not is_twice


class _Checker:
    def __init__(self, function: tirx.PrimFunc) -> None:
        self._function = function
        self._found = tirx.decl_buffer((1,), "int32", "found")
        # How often each element was written to, of tensors whose written places data decide.
        self.counts: dict[Any, Any] = {}
        # Tensors whose values the check does not have: floats, and what is computed from them.
        self._unknown: set[Any] = set()
        self._data: set[Any] = set()
        while self._learned():
            pass

    def function(self) -> tirx.PrimFunc:
        body = self._visit(self._function.body)
        attrs = {"global_symbol": _ENTRY, "tirx.noalias": True}
        params = [*self._function.params, self._found, *self.counts.values()]
        return tirx.PrimFunc(params, body or tirx.Evaluate(0)).with_attrs(attrs)

    def _learned(self) -> bool:
        before = len(self._unknown) + len(self._data)
        body = self._function.body
        for bind in (*nodes(body, tirx.Bind), *nodes(body, prim.Let)):
            if self._is_data(bind.value):
                self._data.add(bind.var)
            if self._is_unknown(bind.value):
                self._unknown.add(bind.var)
        for loop in nodes(body, tirx.For):
            if self._is_data(loop.min) or self._is_data(loop.extent):
                self._data.add(loop.loop_var)
        for store in nodes(body, tirx.BufferStore):
            if self._is_unknown(store.value):
                self._unknown.add(store.buffer)
        return len(self._unknown) + len(self._data) > before

    def _is_data(self, expr: Any) -> bool:
        return bool(loads(expr)) or any(var in self._data for var in nodes(expr, tirx.Var))

    def _is_unknown(self, expr: Any) -> bool:
        buffers = loaded_buffers(expr)
        return (
            any(str(buffer.dtype).startswith(("float", "bfloat")) for buffer in buffers)
            or not buffers.isdisjoint(self._unknown)
            or any(var in self._unknown for var in nodes(expr, tirx.Var))
            or bool(_unfollowed(expr))
        )

    def _known(self, expr: Any, what: str) -> Any:
        if self._is_unknown(expr):
            raise UncheckedError(f"{what} depends on floats or on external calls")
        return self._safe(expr)

    def _safe(self, expr: Any) -> Any:
        """Return an expression that reads inside its tensors and divides by no zero."""

        def load(found: Any) -> Any:
            indices = [
                self._clamped(index, extent) if self._is_data(index) else index
                for index, extent in zip(found.indices, buffer_of(found).ty.shape, strict=True)
            ]
            return tirx.BufferLoad(buffer_of(found), indices)

        def divided(found: Any) -> Any:
            if not self._is_data(found.b) or is_float_expr(found):
                return found
            one = tirx.const(1, str(found.b.ty.dtype))
            zero = tirx.const(0, str(found.b.ty.dtype))
            return type(found)(found.a, prim.Select(prim.EQ(found.b, zero), one, found.b))

        rules = [(TensorLoad, load), *((kind, divided) for kind in DIVISIONS)]
        for rule in rules:
            expr = tvm_ffi.structural_map(expr, rule)
        return expr

    def _clamped(self, index: Any, extent: Any) -> Any:
        dtype = str(index.ty.dtype)
        last = _as(extent, dtype) - tirx.const(1, dtype)
        return tirx.max(tirx.min(index, last), tirx.const(0, dtype))

    def _visit(self, statement: Any) -> Any:
        """Return the part of a statement that matters to the check; None if nothing does."""
        match statement:
            case tirx.SeqStmt():
                parts = [self._visit(part) for part in statement.seq]
                return _sequence([part for part in parts if part is not None])
            case tirx.Bind():
                if self._is_unknown(statement.value):
                    return _sequence(self._checks(statement.value))
                bound = tirx.Bind(statement.var, self._safe(statement.value))
                return _sequence([*self._checks(statement.value), bound])
            case tirx.For():
                body = self._visit(statement.body)
                if body is None and not self._is_data(statement.extent):
                    return None
                start = self._known(statement.min, "a loop")
                extent = self._known(statement.extent, "a loop")
                checks = [*self._checks(statement.min), *self._checks(statement.extent)]
                loop = tirx.For(
                    statement.loop_var,
                    start,
                    extent,
                    tirx.ForKind.SERIAL,
                    body or tirx.Evaluate(0),
                )
                return _sequence([*checks, loop])
            case tirx.IfThenElse():
                arms = [statement.then_case, statement.else_case]
                yes, no = (None if arm is None else self._visit(arm) for arm in arms)
                checks = self._checks(statement.condition)
                if yes is None and no is None:
                    return _sequence(checks)
                condition = self._known(statement.condition, "a branch")
                branch = tirx.IfThenElse(condition, yes or tirx.Evaluate(0), no)
                return _sequence([*checks, branch])
            case tirx.AllocBuffer():
                return statement
            case tirx.BufferStore():
                return _sequence(self._stored(statement))
            case tirx.Evaluate() if isinstance(statement.value, prim.IntImm):
                return None
        raise UncheckedError(f"it has a {type(statement).__name__}")

    def _stored(self, store: Any) -> Iterator[Any]:
        yield from self._checks(store.value)
        indices = []
        is_counted = False
        for index, extent in zip(store.indices, store.buffer.ty.shape, strict=True):
            yield from self._checks(index)
            if self._is_data(index):
                safe = self._known(index, "where it stores")
                yield self._flag(_outside(safe, extent), None)
                index = self._clamped(safe, extent)
                # A sum may come back to where it was.
                is_counted = store.buffer not in loaded_buffers(store.value)
            indices.append(index)
        if is_counted:
            count = self._count_of(store.buffer)
            one = tirx.BufferLoad(count, indices) + tirx.const(1, "int32")
            yield tirx.BufferStore(count, one, indices)
        if store.buffer not in self._unknown and not is_float_expr(store.value):
            yield tirx.BufferStore(store.buffer, self._safe(store.value), indices)

    def _count_of(self, buffer: Any) -> Any:
        if buffer not in list(self._function.params):
            raise UncheckedError("data decide where it writes to a tensor of its own")
        if buffer not in self.counts:
            name = f"{buffer.name}_count"
            self.counts[buffer] = tirx.decl_buffer(buffer.ty.shape, "int32", name)
        return self.counts[buffer]

    def _checks(self, expr: Any, guard: Any = None) -> list[Any]:
        """Return statements that note where an expression reads outside, under a condition."""
        return list(self._noted(expr, guard))

    def _noted(self, expr: Any, guard: Any) -> Iterator[Any]:
        if isinstance(expr, prim.Let):
            raise UncheckedError("it has a Let")
        if not self._has_data_inside(expr):
            return
        choice = choice_of(expr)
        if choice is not None:
            condition, yes, no = choice
            yield from self._noted(condition, guard)
            if self._has_data_inside(yes) or self._has_data_inside(no):
                held = self._known(condition, "a choice")
                yield from self._noted(yes, _both(guard, held))
                yield from self._noted(no, _both(guard, prim.Not(held)))
            return
        if isinstance(expr, TensorLoad):
            for index, extent in zip(expr.indices, buffer_of(expr).ty.shape, strict=True):
                yield from self._noted(index, guard)
                if self._is_data(index):
                    safe = self._known(index, "where it reads")
                    yield self._flag(_outside(safe, extent), guard)
            return
        if isinstance(expr, DIVISIONS) and not is_float_expr(expr) and self._is_data(expr.b):
            divisor = self._known(expr.b, "a divisor")
            zero = tirx.const(0, str(divisor.ty.dtype))
            yield self._flag(prim.EQ(divisor, zero), guard)
        for part in _parts(expr):
            yield from self._noted(part, guard)

    def _has_data_inside(self, expr: Any) -> bool:
        """Return whether an expression reads at places, or divides by values, that data decide."""
        return any(self._is_data(index) for load in loads(expr) for index in load.indices) or any(
            self._is_data(division.b) and not is_float_expr(division)
            for kind in DIVISIONS
            for division in nodes(expr, kind)
        )

    def _flag(self, condition: Any, guard: Any) -> Any:
        return tirx.IfThenElse(
            _both(guard, condition),
            tirx.BufferStore(self._found, tirx.const(1, "int32"), [0]),
            None,
        )


def _both(guard: Any, condition: Any) -> Any:
    return condition if guard is None else prim.And(guard, condition)


def _outside(index: Any, extent: Any) -> Any:
    dtype = str(index.ty.dtype)
    return prim.Or(index < tirx.const(0, dtype), index >= _as(extent, dtype))


def _as(expr: Any, dtype: str) -> Any:
    return (
        tirx.const(int(expr.value), dtype)
        if isinstance(expr, prim.IntImm)
        else prim.Cast(dtype, expr)
    )


def _parts(expr: Any) -> list[Any]:
    match expr:
        case ir_expr.Call():
            return list(expr.args)
        case prim.Cast():
            return [expr.value]
        case prim.Not():
            return [expr.a]
        case _ if hasattr(expr, "b"):
            return [expr.a, expr.b]
    raise UncheckedError(f"it has a {type(expr).__name__}")


def _unfollowed(expr: Any) -> list[Any]:
    """Return the calls in an expression of whole numbers that may have an effect."""
    return [
        call
        for call in nodes(expr, ir_expr.Call)
        if isinstance(call.op, Op) and call.op.name in ("tirx.call_extern", "tirx.call_packed")
    ]


def _sequence(statements: Any) -> Any:
    parts = list(statements)
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)
