"""What a PrimFunc does with the values of its inputs: whether they decide where it reads or writes.

Roles follow from data flow alone and err on one side: an input that never reaches an index has no
such role, one that has the role may be harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import buffer_of, prim
from relax_tapml.kernel_flow.expressions import (
    DIVISIONS,
    choice_of,
    is_float_expr,
    loaded_buffers,
    loads,
    nodes,
)
from relax_tapml.kernel_flow.interval import Interval, bounds


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Numbers of parameters, by what their values decide.

    Parameters
    ----------
    loads
        Where the PrimFunc reads.
    stores
        Where it writes.
    loops
        How often a loop runs.
    guards
        Whether something is read or written, or by what is divided.
    extents
        Of a parameter that is an index: the extents of the axes that it points into.
    """

    loads: frozenset[int]
    stores: frozenset[int]
    loops: frozenset[int]
    guards: frozenset[int]
    extents: dict[int, frozenset[int]]

    @property
    def places(self) -> frozenset[int]:
        """Parameters that decide anything but values."""
        return self.loads | self.stores | self.loops | self.guards


def roles_of(function: tirx.PrimFunc, fixed: Mapping[tirx.Var, Interval]) -> Roles:
    """Find the roles of the parameters of a PrimFunc.

    Parameters
    ----------
    function
        Of loops and stores, see ``plain_kernel``.
    fixed
        Values of symbolic dimensions.
    """
    flow = Flow(function)
    found: dict[str, set[int]] = {name: set() for name in ("loads", "stores", "loops", "guards")}
    extents: dict[int, set[int]] = {}
    for role, expr, extent in _decisive(function):
        numbers = flow.sources(expr)
        found[role] |= numbers
        size = None if extent is None else bounds(extent, fixed)
        if size is not None and size.is_point:
            for number in numbers:
                extents.setdefault(number, set()).add(size.low)
    return Roles(
        **{name: frozenset(numbers) for name, numbers in found.items()},
        extents={number: frozenset(some) for number, some in extents.items()},
    )


def _decisive(function: tirx.PrimFunc) -> Iterator[tuple[str, Any, Any]]:
    """Yield the expressions that decide more than values: the role, and the extent of an index."""
    for load in loads(function.body):
        for index, extent in zip(load.indices, buffer_of(load).ty.shape, strict=True):
            yield "loads", index, extent
    for store in nodes(function.body, tirx.BufferStore):
        for index, extent in zip(store.indices, store.buffer.ty.shape, strict=True):
            yield "stores", index, extent
    for loop in nodes(function.body, tirx.For):
        yield "loops", loop.min, None
        yield "loops", loop.extent, None
    for branch in nodes(function.body, tirx.IfThenElse):
        yield "guards", branch.condition, None
    for expr in (*nodes(function.body, ir_expr.Call), *nodes(function.body, prim.Select)):
        choice = choice_of(expr)
        if choice is not None and _reads(choice[1:]):
            yield "guards", choice[0], None
    for kind in DIVISIONS:
        for division in nodes(function.body, kind):
            if not is_float_expr(division):
                yield "guards", division.b, None


def _reads(arms: Any) -> bool:
    """Return whether an arm reads at an index that depends on data, which its condition may guard.

    What is read at an index of loop variables alone is read inside its tensor whatever the data.
    """
    return any(loads(index) for arm in arms for load in loads(arm) for index in load.indices)


class Flow:
    """Which parameters each tensor and each variable comes from."""

    def __init__(self, function: tirx.PrimFunc) -> None:
        self._numbers = {param: number for number, param in enumerate(function.params)}
        self._tensors: dict[Any, set[Any]] = {}
        self._variables: dict[Any, set[Any]] = {}
        while self._grew(function):
            pass

    def sources(self, expr: Any) -> set[int]:
        """Return the parameters that an expression depends on."""
        buffers = loaded_buffers(expr, self._variables)
        reached = buffers.union(*(self._tensors.get(buffer, set()) for buffer in buffers))
        return {self._numbers[buffer] for buffer in reached if buffer in self._numbers}

    def _grew(self, function: tirx.PrimFunc) -> bool:
        before = self._size()
        for bind in (*nodes(function.body, tirx.Bind), *nodes(function.body, prim.Let)):
            self._add(self._variables, bind.var, bind.value)
        for loop in nodes(function.body, tirx.For):
            self._add(self._variables, loop.loop_var, loop.min)
            self._add(self._variables, loop.loop_var, loop.extent)
        for branch in nodes(function.body, tirx.IfThenElse):
            for store in nodes(branch, tirx.BufferStore):
                self._add(self._tensors, store.buffer, branch.condition)
        for store in nodes(function.body, tirx.BufferStore):
            for expr in (store.value, *store.indices):
                self._add(self._tensors, store.buffer, expr)
        return self._size() > before

    def _size(self) -> int:
        return sum(map(len, self._tensors.values())) + sum(map(len, self._variables.values()))

    def _add(self, known: dict[Any, set[Any]], to: Any, expr: Any) -> None:
        buffers = loaded_buffers(expr, self._variables)
        further = [self._tensors.get(buffer, set()) for buffer in buffers]
        known.setdefault(to, set()).update(buffers.union(*further))
