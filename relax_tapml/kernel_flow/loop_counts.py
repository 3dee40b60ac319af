"""How much a PrimFunc does for given arguments, by the loops that it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm_ffi
from tvm import tirx

from relax_tapml._compat import SBlockRealize, TensorLoad, buffer_of
from relax_tapml.arrays import Array
from relax_tapml.kernel_flow.expressions import constant, loads, nodes
from relax_tapml.kernel_flow.integer_values import integer_values
from relax_tapml.kernel_flow.stores import NotAnalyzableError

# Of one expression at once; a kernel that needs more is not followed.
_MOST_VALUES = 1 << 22
_REDUCTION = 2


@dataclass(frozen=True, kw_only=True)
class LoopCounts:
    """What one call of a PrimFunc does.

    Parameters
    ----------
    iterations
        How often the innermost statements run.
    passes
        For each loop that adds something up, or whose end is read from a tensor: the most passes it
        makes at a time. This is the context of an attention kernel.
    """

    iterations: int
    passes: tuple[int, ...]


class Loops:
    """The loops of a PrimFunc.

    Parameters
    ----------
    function
        As Relax lowers operators, or a hand-written kernel.

    Attributes
    ----------
    varies
        Whether calls may differ in what they do.
    reads
        Whether the values of tensors decide what a call does.
    """

    def __init__(self, function: tirx.PrimFunc) -> None:
        self._function = function
        self._defined: dict[tirx.Var, Any] = {}
        self._stored: dict[tirx.Var, list[Any]] = {}
        self._loops: list[Any] = []
        self._ends: list[Any] = []
        reducing: set[tirx.Var] = set()
        tvm_ffi.structural_walk(function.body, (tirx.For, self._note_loop))
        tvm_ffi.structural_walk(function.body, (tirx.BufferStore, self._note_store))
        tvm_ffi.structural_walk(function.body, (tirx.Bind, self._note_bind))
        tvm_ffi.structural_walk(function.body, (tirx.IfThenElse, self._note_condition))
        tvm_ffi.structural_walk(
            function.body, (SBlockRealize, lambda block: self._note_block(block, reducing))
        )
        self._needed, self.reads = self._behind(self._ends)
        self.varies = any(not isinstance(end, tirx.IntImm) for end in self._ends)
        self._counted = [self._is_counted(loop, reducing) for loop in self._loops]

    def counts(
        self, arrays: Mapping[int, Array], fixed: Mapping[tirx.Var, int]
    ) -> LoopCounts | None:
        """Return what a call does; None where it is not followed.

        Parameters
        ----------
        arrays
            Integer tensors by number of the parameter; needed only where ``reads``.
        fixed
            Values of integer parameters and symbolic dimensions.
        """
        params = list(self._function.params)
        known = {params[number]: array for number, array in arrays.items()}
        run = _Run(known, {loop.loop_var: 0 for loop in self._loops}, self._needed)
        environment = {var: np.int64(value) for var, value in fixed.items()}
        try:
            total = run.count(self._function.body, environment, np.True_)
        except NotAnalyzableError:
            return None
        passes = [
            run.passes[loop.loop_var]
            for loop, is_counted in zip(self._loops, self._counted, strict=True)
            if is_counted
        ]
        return LoopCounts(iterations=int(total), passes=tuple(passes))

    def _note_loop(self, loop: tirx.For) -> None:
        self._loops.append(loop)
        self._ends += [loop.min, loop.extent]

    def _note_store(self, store: tirx.BufferStore) -> None:
        self._stored.setdefault(store.buffer, []).append(store.value)

    def _note_bind(self, bind: tirx.Bind) -> None:
        self._defined[bind.var] = bind.value

    def _note_condition(self, statement: tirx.IfThenElse) -> None:
        if _has_loops(statement):
            self._ends.append(statement.condition)

    def _note_block(self, realize: Any, reducing: set[tirx.Var]) -> None:
        for item, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
            self._defined[item.var] = value
            if int(item.iter_type) == _REDUCTION:
                reducing.update(_variables(value))

    def _behind(self, exprs: Iterable[Any]) -> tuple[set[tirx.Var], bool]:
        """Return all variables that some expressions are computed from, and whether they load."""
        found: set[tirx.Var] = set()
        pending = list(exprs)
        is_loading = False
        while pending:
            expr = pending.pop()
            for load in loads(expr):
                is_loading = True
                if buffer_of(load) not in found:
                    found.add(buffer_of(load))
                    pending += self._stored.get(buffer_of(load), [])
            for var in _variables(expr):
                if var not in found:
                    found.add(var)
                    if var in self._defined:
                        pending.append(self._defined[var])
        return found, is_loading

    def _is_counted(self, loop: tirx.For, reducing: set[tirx.Var]) -> bool:
        if loop.loop_var in reducing or self._behind([loop.extent])[1]:
            return True
        guard = loop.body
        is_guarded = isinstance(guard, tirx.IfThenElse) and guard.else_case is None
        if not (is_guarded and _has_loops(guard)):
            return False
        needed, is_loading = self._behind([guard.condition])
        return is_loading and loop.loop_var in needed


@dataclass
class _Run:
    """One count; the values of variables have an axis for each loop that they depend on."""

    arrays: Mapping[tirx.Var, Array]
    passes: dict[tirx.Var, int]
    needed: set[tirx.Var]
    local: dict[tirx.Var, Array] = field(default_factory=dict)

    def count(self, statement: Any, environment: Mapping[tirx.Var, Any], active: Any) -> Any:
        """Return how often the innermost statements run, where ``active``; it broadcasts."""
        match statement:
            case tirx.SeqStmt():
                total: Any = np.int64(0)
                for part in statement.seq:
                    if isinstance(part, tirx.Bind):
                        environment = self._bound(part, environment)
                    else:
                        total = total + self.count(part, environment, active)
                return total
            case tirx.For():
                return self._loop(statement, environment, active)
            case SBlockRealize():
                block = statement.block
                inner = dict(environment)
                for item, value in zip(block.iter_vars, statement.iter_values, strict=True):
                    if item.var in self.needed:
                        inner[item.var] = self._value(value, environment)
                return self.count(block.body, inner, active)
            case tirx.IfThenElse():
                if not _has_loops(statement):
                    return np.where(active, 1, 0)
                condition = self._value(statement.condition, environment) != 0
                total = self.count(statement.then_case, environment, active & condition)
                if statement.else_case is not None:
                    total = total + self.count(
                        statement.else_case, environment, active & ~condition
                    )
                return total
            case tirx.BufferStore():
                if statement.buffer in self.needed:
                    self._store(statement, environment)
                return np.where(active, 1, 0)
            case tirx.AttrStmt():
                return self.count(statement.body, environment, active)
            case tirx.AllocBuffer() | tirx.Evaluate() | tirx.Bind():
                return np.int64(0)
        raise NotAnalyzableError(f"it has a {type(statement).__name__}")

    def _loop(self, loop: tirx.For, environment: Mapping[tirx.Var, Any], active: Any) -> Any:
        extent = np.where(active, np.maximum(self._value(loop.extent, environment), 0), 0)
        most = int(extent.max(initial=0))
        if loop.loop_var not in self.needed:
            inside = self.count(loop.body, environment, active)
            self._note(loop, most if np.any(inside) else 0)
            return extent * inside
        if most * max(extent.size, 1) > _MOST_VALUES:
            raise NotAnalyzableError("it has too many iterations")
        number = np.arange(most, dtype=np.int64).reshape(-1, *[1] * extent.ndim)
        within = active & (number < extent)
        first = self._value(loop.min, environment)
        inside = self.count(loop.body, {**environment, loop.loop_var: first + number}, within)
        inside = np.broadcast_to(np.where(within, inside, 0), (most, *np.shape(inside)[1:]))
        self._note(loop, int((inside > 0).sum(axis=0).max(initial=0)))
        return inside.sum(axis=0)

    def _note(self, loop: tirx.For, passes: int) -> None:
        self.passes[loop.loop_var] = max(self.passes[loop.loop_var], passes)

    def _bound(self, bind: tirx.Bind, environment: Mapping[tirx.Var, Any]) -> Mapping[Any, Any]:
        if bind.var not in self.needed:
            return environment
        return {**environment, bind.var: self._value(bind.value, environment)}

    def _store(self, store: tirx.BufferStore, environment: Mapping[tirx.Var, Any]) -> None:
        if store.buffer in self.arrays or any(constant(e) != 1 for e in store.buffer.ty.shape):
            raise NotAnalyzableError(f"{store.buffer.name} is computed")
        self.local[store.buffer] = self._value(store.value, environment)

    def _value(self, expr: Any, environment: Mapping[tirx.Var, Any]) -> Any:
        return integer_values(expr, environment, self._loaded)

    def _loaded(self, load: TensorLoad, indices: list[Array]) -> Array:
        buffer = buffer_of(load)
        if buffer in self.local:
            return self.local[buffer]
        array = self.arrays.get(buffer)
        if array is None or array.dtype.kind not in "biu" or not array.size:
            raise NotAnalyzableError(f"nothing is known of {buffer.name}")
        # What is outside is read where the loop has ended already.
        places = [np.clip(i, 0, n - 1) for i, n in zip(indices, array.shape, strict=True)]
        return np.asarray(array[tuple(places)]).astype(np.int64)


def _has_loops(statement: Any) -> bool:
    return bool(nodes(statement, tirx.For))


def _variables(expr: Any) -> Sequence[tirx.Var]:
    return list(tirx.analysis.undefined_vars(expr)) if not isinstance(expr, int) else []
