"""Whether a PrimFunc stays within its tensors, for other sizes and integers than were recorded."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import Analyzer, TensorLoad, buffer_of, prim
from relax_tapml.arrays import Array
from relax_tapml.kernel_flow.expressions import ADDRESS_OPS, choice_of, constant, loads
from relax_tapml.kernel_flow.stores import NotAnalyzableError, Store, stores_of

_PURE = ("prim.", "tirx.")


@dataclass(frozen=True, kw_only=True)
class _Access:
    """One index of a load or store that may lie outside its dimension.

    ``conditions`` hold where it happens, in addition to those of the store it belongs to.
    """

    index: Any
    extent: Any
    store: Store
    conditions: tuple[Any, ...]


class Accesses:
    """The loads and stores of a PrimFunc.

    Parameters
    ----------
    function
        As Relax lowers operators.

    Raises
    ------
    NotAnalyzableError
        It does something that is not followed: it calls for an effect, loops until a condition
        holds, or as often as a value in a tensor, or asserts.
    """

    def __init__(self, function: tirx.PrimFunc) -> None:
        self._params = {param: number for number, param in enumerate(function.params)}
        self._stores = stores_of(function)
        self._unchecked: list[_Access] = []
        for stores in self._stores.values():
            for store in stores:
                for _, first, extent in store.ranges:
                    if loads(first) or loads(extent):
                        raise NotAnalyzableError("a tensor decides how often its loops run")
                self._unchecked += _accesses(store)

    def index_limits(self, sizes: Mapping[tirx.Var, int]) -> dict[int, int]:
        """Return the number that values of an integer parameter must stay below to be indices.

        Parameters
        ----------
        sizes
            Of the symbolic dimensions.
        """
        limits: dict[int, int] = {}
        for access in self._unchecked:
            for number in self._roots(access.index):
                extent = constant(_substituted(access.extent, sizes))
                if extent is not None:
                    limits[number] = min(extent, limits.get(number, extent))
        return limits

    def are_within(self, sizes: Mapping[tirx.Var, int], arrays: Mapping[int, Array]) -> bool:
        """Whether it is proven that a call reads and writes nothing outside its tensors.

        Parameters
        ----------
        sizes
            Of the symbolic dimensions and integer parameters.
        arrays
            Integer tensors by number of the parameter.
        """
        proof = _Proof(sizes, arrays, self._params, self._stores)
        return all(map(proof.holds, self._unchecked))

    def _roots(self, expr: Any) -> set[int]:
        """Return the numbers of the parameters that an expression is computed from."""
        found: set[int] = set()
        visited: set[tirx.Var] = set()
        pending = [expr]
        while pending:
            for load in loads(pending.pop()):
                buffer = buffer_of(load)
                if buffer in visited:
                    continue
                visited.add(buffer)
                if buffer in self._params:
                    found.add(self._params[buffer])
                pending += [store.value for store in self._stores.get(buffer, ())]
        return found


class _Proof:
    """Proofs for one set of sizes and integers."""

    def __init__(
        self,
        sizes: Mapping[tirx.Var, int],
        arrays: Mapping[int, Array],
        params: Mapping[tirx.Var, int],
        stores: Mapping[tirx.Var, tuple[Store, ...]],
    ) -> None:
        self._sizes = sizes
        self._arrays = arrays
        self._params = params
        self._stores = stores
        self._pending: set[tirx.Var] = set()
        self._known: dict[tirx.Var, tuple[int, int] | None] = {}

    def holds(self, access: _Access) -> bool:
        with ExitStack() as stack:
            scope = _Scope(self, access.store, stack)
            for condition in access.conditions:
                scope.assume(condition)
            index, extent = scope.resolved(access.index), scope.resolved(access.extent)
            can_prove = scope.analyzer.can_prove
            return scope.is_dead or bool(can_prove(index >= 0) and can_prove(index < extent))

    def sized(self, expr: Any) -> Any:
        return _substituted(expr, self._sizes)

    def values(self, buffer: tirx.Var) -> tuple[int, int] | None:
        """Return the least and the greatest integer in a tensor; None where it is not known."""
        if buffer not in self._known:
            self._known[buffer] = self._values(buffer)
        return self._known[buffer]

    def _values(self, buffer: tirx.Var) -> tuple[int, int] | None:
        array = self._arrays.get(self._params.get(buffer, -1))
        if array is not None:
            is_integer = array.dtype.kind in "biu" and array.size > 0
            return (int(array.min()), int(array.max())) if is_integer else None
        if buffer in self._pending or not self._stores.get(buffer):
            return None
        self._pending.add(buffer)
        found = [self._stored(store) for store in self._stores[buffer]]
        self._pending.discard(buffer)
        known = [limits for limits in found if limits is not None]
        if len(known) < len(found):
            return None
        return min(low for low, _ in known), max(high for _, high in known)

    def _stored(self, store: Store) -> tuple[int, int] | None:
        if not str(store.value.ty.dtype).startswith(("int", "uint", "bool")):
            return None
        with ExitStack() as stack:
            scope = _Scope(self, store, stack)
            return self._bounds(scope, store.value)

    def _bounds(self, scope: _Scope, value: Any) -> tuple[int, int] | None:
        parts = choice_of(value)
        if parts is not None:
            condition, *chosen = parts
            found = []
            for is_taken, part in zip((condition, prim.Not(condition)), chosen, strict=True):
                with ExitStack() as stack:
                    inner = scope.inside(stack)
                    inner.assume(is_taken)
                    if not inner.is_dead:
                        found.append(self._bounds(inner, part))
            known = [limits for limits in found if limits is not None]
            if len(known) < len(found) or not known:
                return None
            return min(low for low, _ in known), max(high for _, high in known)
        limits = scope.analyzer.const_int_bound(scope.resolved(value))
        low, high = int(limits.min_value), int(limits.max_value)
        return None if abs(low) >= 1 << 62 or abs(high) >= 1 << 62 else (low, high)


class _Scope:
    """What is known where a store runs."""

    def __init__(self, proof: _Proof, store: Store, stack: ExitStack) -> None:
        self.analyzer = Analyzer()
        self._proof = proof
        self._stack = stack
        self._bound: dict[tirx.Var, Any] = {}
        self._loaded: dict[str, tirx.Var] = {}
        # Whether the conditions cannot all hold, so that nothing runs here.
        self.is_dead = False
        for variable, first, extent in store.ranges:
            known = tvm.ir.Range.from_min_extent(self.resolved(first), self.resolved(extent))
            self.analyzer.bind(variable, known)
        for variable, value in store.bindings:
            self._bound[variable] = self.resolved(value)
        for condition in store.conditions:
            self.assume(condition)

    def inside(self, stack: ExitStack) -> _Scope:
        """Return this scope with another stack, for conditions that hold for a shorter time."""
        inner = copy.copy(self)
        inner._stack = stack
        return inner

    def assume(self, condition: Any) -> None:
        """Take a condition to hold for as long as the stack is open."""
        known = self.analyzer.simplify(self.resolved(condition))
        self.is_dead = self.is_dead or constant(known) == 0
        self._stack.enter_context(self.analyzer.constraint_scope(known))

    def resolved(self, expr: Any) -> Any:
        """Return an expression of loop variables and of values that tensors may hold."""
        return self._proof.sized(
            tvm_ffi.structural_map(
                expr,
                [
                    (TensorLoad, self._value),
                    (tirx.Var, lambda variable: self._bound.get(variable, variable)),
                ],
            )
        )

    def _value(self, load: Any) -> tirx.Var:
        text = str(load)
        if text not in self._loaded:
            variable = tirx.Var("value", load.ty.dtype)
            limits = self._proof.values(buffer_of(load))
            if limits is not None:
                low, high = limits
                dtype = str(load.ty.dtype)
                known = tvm.ir.Range.from_min_extent(
                    tirx.IntImm(dtype, low), tirx.IntImm(dtype, high - low + 1)
                )
                self.analyzer.bind(variable, known)
            self._loaded[text] = variable
        return self._loaded[text]


def _accesses(store: Store) -> Iterator[_Access]:
    """Yield the accesses of a store that may lie outside their tensors."""
    for condition in store.conditions:
        # Those before it may guard it.
        yield from _loaded(condition, store, ())
    for _, value in store.bindings:
        yield from _loaded(value, store, ())
    yield from _loaded(store.value, store, ())
    for index in store.indices:
        yield from _loaded(index, store, ())
    yield from _indexed(store.buffer, store.indices, store, ())


def _loaded(expr: Any, store: Store, conditions: tuple[Any, ...]) -> Iterator[_Access]:
    parts = choice_of(expr)
    match expr:
        case TensorLoad():
            for index in expr.indices:
                yield from _loaded(index, store, conditions)
            yield from _indexed(buffer_of(expr), expr.indices, store, conditions)
        case _ if parts is not None:
            condition, true_value, false_value = parts
            yield from _loaded(condition, store, conditions)
            yield from _loaded(true_value, store, (*conditions, condition))
            yield from _loaded(false_value, store, (*conditions, prim.Not(condition)))
        case ir_expr.Call():
            name = expr.op.name if isinstance(expr.op, Op) else ""
            if not name.startswith(_PURE) or name in ADDRESS_OPS:
                raise NotAnalyzableError(f"it calls {name or expr.op}")
            for argument in expr.args:
                yield from _loaded(argument, store, conditions)
        case prim.Let():
            raise NotAnalyzableError("it has a variable in an expression")
        case _:
            for part in ("a", "b", "value"):
                inner = getattr(expr, part, None)
                if isinstance(inner, ir_expr.Expr):
                    yield from _loaded(inner, store, conditions)


def _indexed(
    buffer: tirx.Var, indices: Any, store: Store, conditions: tuple[Any, ...]
) -> Iterator[_Access]:
    extents = {variable: (first, extent) for variable, first, extent in store.ranges}
    for index, extent in zip(indices, buffer.ty.shape, strict=True):
        if isinstance(index, tirx.Var) and index in extents:
            first, count = extents[index]
            if constant(first) == 0 and tvm_ffi.structural_equal(count, extent):
                continue
        if constant(index) == 0:
            # No dimension of a call is less than 1.
            continue
        yield from _chosen(index, extent, store, conditions)


def _chosen(
    index: Any, extent: Any, store: Store, conditions: tuple[Any, ...]
) -> Iterator[_Access]:
    """Yield the accesses that an index stands for, one for each value it chooses between."""
    parts = choice_of(index)
    if parts is None:
        yield _Access(index=index, extent=extent, store=store, conditions=conditions)
        return
    condition, true_value, false_value = parts
    yield from _chosen(true_value, extent, store, (*conditions, condition))
    yield from _chosen(false_value, extent, store, (*conditions, prim.Not(condition)))


def _substituted(expr: Any, sizes: Mapping[tirx.Var, int]) -> Any:
    return tvm_ffi.structural_map(
        expr,
        (
            tirx.Var,
            lambda variable: (
                tirx.IntImm(str(variable.ty.dtype), sizes[variable])
                if variable in sizes
                else variable
            ),
        ),
    )
