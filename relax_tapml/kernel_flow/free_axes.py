"""Free axes: along which a PrimFunc computes each element of its results by itself.

For the rows and columns of a product, the heads of attention, or the rows of a softmax, a kernel
that does only some of the turns computes the same elements as one that does all of them. So a few
elements, or a block of them, can be computed without the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import Analyzer, TensorLoad, buffer_of, prim
from relax_tapml.kernel_flow.expressions import ADDRESS_OPS, constant, nodes

_SERIAL = (
    tirx.ForKind.SERIAL,
    tirx.ForKind.PARALLEL,
    tirx.ForKind.VECTORIZED,
    tirx.ForKind.UNROLLED,
)


@dataclass(frozen=True, kw_only=True)
class TensorDim:
    """One dimension of a parameter, by the number of the parameter."""

    param: int
    dim: int


@dataclass(frozen=True, kw_only=True)
class FreeAxis:
    """Loops, and dimensions of tensors, that take the same values, each value by itself.

    A kernel whose loops of the axis take some of its values only computes exactly the elements at
    these values, in every dimension of the axis, and needs no others.

    Parameters
    ----------
    extent
        How many values there are, from 0: an integer expression of the dimensions of the PrimFunc.
    loops
        Loop variables.
    buffers
        The dimensions of the tensors that the kernel writes to, by buffer.
    results
        Those of them that are dimensions of parameters.
    inputs
        Dimensions of parameters that are only read, and where every access is at a value of the
        axis: of these, only the elements at the values computed are needed. They may be longer
        than the axis.
    is_counted
        Whether the kernel uses the value itself otherwise: in a condition, in an index of another
        form, or in a number that it computes.
    """

    extent: Any
    loops: frozenset[Any]
    buffers: Mapping[Any, frozenset[int]]
    results: tuple[TensorDim, ...]
    inputs: tuple[TensorDim, ...]
    is_counted: bool


def free_axes(function: tirx.PrimFunc) -> tuple[FreeAxis, ...]:
    """Find the free axes of a PrimFunc that its results have.

    Loop variables and dimensions belong to one axis where a tensor that the kernel writes to is
    accessed at the variable. Such an axis is free if every access to its dimensions is at a
    variable of the axis, all its extents are equal, and whatever its loops store is stored at
    their variables. ::

        for i, j, k: C[i, j] = C[i, j] + A[i, k] * B[k, j]   # i and j are free, k is not
        for i, j: D[i, j] = exp(C[i, j]) / S[i]              # C and D, with the same i and j

    What is not proven is not free.

    Parameters
    ----------
    function
        Without blocks, as ``plain_kernel`` returns it.

    Returns
    -------
    tuple of FreeAxis
        In the order of the results' dimensions. None where the kernel runs in threads, calls for
        an effect, or does something else that is not followed.
    """
    found = _Accesses(list(function.params))
    try:
        found.visit(function.body, ())
    except _NotFollowedError:
        return ()
    return tuple(_axes(found))


class _NotFollowedError(Exception):
    pass


@dataclass(frozen=True)
class _Access:
    """A load or store, and the loops around it from the outermost in."""

    buffer: Any
    indices: tuple[Any, ...]
    loops: tuple[Any, ...]


@dataclass
class _Accesses:
    """What the statements of a kernel do."""

    params: Sequence[Any]
    extents: dict[Any, Any] = field(default_factory=dict)
    stores: list[_Access] = field(default_factory=list)
    loads: list[_Access] = field(default_factory=list)
    # Variables used otherwise than as an index by themselves, also inside other expressions.
    counted: set[Any] = field(default_factory=set)
    # The loops around where a tensor is allocated.
    allocated: dict[Any, tuple[Any, ...]] = field(default_factory=dict)

    def visit(self, statement: Any, loops: tuple[Any, ...]) -> None:
        match statement:
            case tirx.SeqStmt():
                for part in statement.seq:
                    self.visit(part, loops)
            case tirx.For():
                is_plain = statement.kind in _SERIAL and statement.step is None
                if not is_plain or statement.loop_var in self.extents:
                    raise _NotFollowedError
                is_from_zero = constant(statement.min) == 0
                self.extents[statement.loop_var] = statement.extent if is_from_zero else None
                self._read(statement.min, loops)
                self._read(statement.extent, loops)
                self.visit(statement.body, (*loops, statement.loop_var))
            case tirx.IfThenElse():
                self._read(statement.condition, loops)
                self.visit(statement.then_case, loops)
                if statement.else_case is not None:
                    self.visit(statement.else_case, loops)
            case tirx.Bind():
                self._read(statement.value, loops)
            case tirx.AllocBuffer():
                self.allocated[statement.buffer] = loops
            case tirx.BufferStore():
                indices = tuple(statement.indices)
                self.stores.append(_Access(statement.buffer, indices, loops))
                self._read(statement.value, loops)
                for index in indices:
                    if not isinstance(index, tirx.Var):
                        self._read(index, loops)
            case tirx.Evaluate() if isinstance(statement.value, prim.IntImm):
                pass
            case _:
                raise _NotFollowedError

    def _read(self, expr: Any, loops: tuple[Any, ...]) -> None:
        """Note the loads of an expression, and the variables that it uses otherwise."""
        match expr:
            case int() | prim.IntImm() | prim.FloatImm():
                return
            case tirx.Var():
                self.counted.add(expr)
            case TensorLoad():
                indices = tuple(expr.indices)
                self.loads.append(_Access(buffer_of(expr), indices, loops))
                for index in indices:
                    if not isinstance(index, tirx.Var):
                        self._read(index, loops)
            case ir_expr.Call():
                name = expr.op.name if isinstance(expr.op, Op) else ""
                if not name.startswith(("prim.", "tirx.")) or name in ADDRESS_OPS:
                    raise _NotFollowedError
                for argument in expr.args:
                    if isinstance(argument, ir_expr.Expr):
                        self._read(argument, loops)
            case prim.Let():
                raise _NotFollowedError
            case _:
                parts = [getattr(expr, name, None) for name in _PARTS]
                found = [part for part in parts if isinstance(part, ir_expr.Expr)]
                if not found:
                    raise _NotFollowedError
                for part in found:
                    self._read(part, loops)


_PARTS = ("a", "b", "value", "condition", "true_value", "false_value")

Node = Any  # A loop variable, or a buffer with the number of a dimension.


class _Classes:
    """Loop variables and dimensions of written tensors in disjoint classes."""

    def __init__(self) -> None:
        self._above: dict[Node, Node] = {}
        self.bad: set[Node] = set()

    def root(self, node: Node) -> Node:
        self._above.setdefault(node, node)
        while self._above[node] != node:
            node = self._above[node]
        return node

    def join(self, one: Node, other: Node) -> None:
        self._above[self.root(one)] = self.root(other)

    def members(self) -> dict[Node, list[Node]]:
        """Return the classes none of whose members is bad."""
        found: dict[Node, list[Node]] = {}
        for node in self._above:
            found.setdefault(self.root(node), []).append(node)
        bad = {self.root(node) for node in self.bad}
        return {root: nodes_ for root, nodes_ in found.items() if root not in bad}


def _axes(found: _Accesses) -> Iterator[FreeAxis]:
    written = {store.buffer for store in found.stores}
    classes = _Classes()
    for access in (*found.stores, *found.loads):
        if access.buffer in written:
            for dim, index in enumerate(access.indices):
                node = (access.buffer, dim)
                classes.root(node)
                if isinstance(index, tirx.Var) and index in access.loops:
                    classes.join(node, index)
                else:
                    classes.bad.add(node)
    for store in found.stores:
        inside = found.allocated.get(store.buffer, ())
        at = {index for index in store.indices if isinstance(index, tirx.Var)}
        for variable in store.loops:
            # What is allocated inside a loop belongs to one turn of it.
            if variable not in at and variable not in inside:
                classes.bad.add(variable)
                classes.root(variable)
    numbers = {param: number for number, param in enumerate(found.params)}
    axes = []
    for members in classes.members().values():
        axis = _axis(members, found, written, numbers)
        if axis is not None and axis.results:
            axes.append(axis)
    yield from sorted(axes, key=lambda axis: [(at.param, at.dim) for at in axis.results])


def _axis(
    members: Sequence[Node], found: _Accesses, written: set[Any], numbers: Mapping[Any, int]
) -> FreeAxis | None:
    loops = frozenset(node for node in members if not isinstance(node, tuple))
    dims = [node for node in members if isinstance(node, tuple)]
    extents = [found.extents[variable] for variable in loops]
    extents += [buffer.shape[dim] for buffer, dim in dims]
    if any(extent is None for extent in extents):
        return None
    same = Analyzer().can_prove_equal
    if not loops or not all(same(extent, extents[0]) for extent in extents):
        return None
    # An extent that depends on another loop is none that an argument can have.
    if any(variable in found.extents for variable in nodes(extents[0], tirx.Var)):
        return None
    buffers: dict[Any, set[int]] = {}
    for buffer, dim in dims:
        buffers.setdefault(buffer, set()).add(dim)
    exact: dict[tuple[Any, int], bool] = {}
    for load in found.loads:
        if load.buffer not in written:
            for dim, index in enumerate(load.indices):
                is_at = isinstance(index, tirx.Var) and index in loops
                key = load.buffer, dim
                exact[key] = exact.get(key, True) and is_at
    return FreeAxis(
        extent=extents[0],
        loops=loops,
        buffers={buffer: frozenset(of) for buffer, of in buffers.items()},
        results=_sorted(dims, numbers),
        inputs=_sorted([key for key, is_at in exact.items() if is_at], numbers),
        is_counted=_is_counted(loops, found, exact),
    )


def _is_counted(
    loops: frozenset[Any], found: _Accesses, exact: Mapping[tuple[Any, int], bool]
) -> bool:
    return not loops.isdisjoint(found.counted) or any(
        isinstance(index, tirx.Var) and index in loops and not exact.get((load.buffer, dim), True)
        for load in found.loads
        for dim, index in enumerate(load.indices)
    )


def _sorted(dims: Sequence[tuple[Any, int]], numbers: Mapping[Any, int]) -> tuple[TensorDim, ...]:
    found = [TensorDim(param=numbers[b], dim=dim) for b, dim in dims if b in numbers]
    return tuple(sorted(found, key=lambda at: (at.param, at.dim)))
