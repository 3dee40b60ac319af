"""A PrimFunc as a sequence of loop nests, each of which computes one or more tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import SBlockRealize, TensorLoad, buffer_of

_SYMBOLIC = 64
"""What a symbolic extent counts as, where the size of a loop decides."""

_SPATIAL, _REDUCTION = 0, 2
_PURE = (0, 1)  # Of tvm.tirx.CallEffectKind: an annotation, a pure function.
_BODY = (tirx.SeqStmt, tirx.BufferStore, tirx.Bind, tirx.IfThenElse)
_BARRED = frozenset({"tirx.call_pure_extern", "tirx.address_of", "tirx.tvm_access_ptr"})


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A loop of a nest.

    Parameters
    ----------
    var
        What the body calls the loop's value.
    extent
        How many values, from 0.
    is_reduction
        Whether its iterations add to the same elements, in order.
    """

    var: Any
    extent: Any
    is_reduction: bool

    @property
    def static(self) -> int | None:
        """The extent, if it is a number."""
        return int(self.extent) if isinstance(self.extent, tirx.IntImm) else None

    @property
    def size(self) -> int:
        """The extent, or what counts as one."""
        return _SYMBOLIC if self.static is None else self.static

    @property
    def dtype(self) -> str:
        """The dtype of the loop's value."""
        return str(self.var.ty.dtype)


@dataclass(frozen=True, kw_only=True)
class Nest:
    """Loops around a statement that computes one element of each tensor that it writes.

    Each point of the spatial axes writes elements of its own, and of what the nest writes it reads
    these alone. So points may be computed in any order, at the same time and more than once; the
    reduction axes of one point run in their order.

    Parameters
    ----------
    name
        Of its block.
    axes
        Its loops, the outermost first. Those of one iteration are not listed.
    init
        What is done for each point before the reduction; None for nothing.
    body
        The statement.
    """

    name: str
    axes: tuple[Axis, ...]
    init: Any
    body: Any

    @cached_property
    def spatial(self) -> tuple[Axis, ...]:
        """Its axes that are no reductions."""
        return tuple(axis for axis in self.axes if not axis.is_reduction)

    @cached_property
    def reductions(self) -> tuple[Axis, ...]:
        """Its axes that are reductions."""
        return tuple(axis for axis in self.axes if axis.is_reduction)

    @cached_property
    def statements(self) -> tuple[Any, ...]:
        """``init``, if there is one, and ``body``."""
        return (self.body,) if self.init is None else (self.init, self.body)

    @cached_property
    def stores(self) -> tuple[Any, ...]:
        """Every store."""
        return tuple(found(self.statements, tirx.BufferStore))

    @cached_property
    def loads(self) -> tuple[Any, ...]:
        """Every load."""
        return tuple(found(self.statements, TensorLoad))

    @cached_property
    def accesses(self) -> tuple[tuple[Any, tuple[Any, ...]], ...]:
        """Buffer and indices of every store and load."""
        stored = [(store.buffer, tuple(store.indices)) for store in self.stores]
        return (*stored, *((buffer_of(load), tuple(load.indices)) for load in self.loads))

    @cached_property
    def written(self) -> frozenset[Any]:
        """The buffers that it writes."""
        return frozenset(store.buffer for store in self.stores)

    @cached_property
    def touched(self) -> frozenset[Any]:
        """The buffers that it reads or writes."""
        return frozenset(buffer for buffer, _ in self.accesses)

    @property
    def iterations(self) -> int:
        """How often its body runs; a symbolic extent counts as 64."""
        return math.prod(axis.size for axis in self.axes)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A PrimFunc whose body is a sequence of nests.

    Parameters
    ----------
    function
        The PrimFunc.
    root
        Its root block.
    nests
        In order.
    """

    function: Any
    root: Any
    nests: tuple[Nest, ...]

    @property
    def iterations(self) -> int:
        """How often the bodies of all nests run; a symbolic extent counts as 64."""
        return sum(nest.iterations for nest in self.nests)


class _OtherFormError(Exception):
    pass


def read_kernel(function: Any) -> Kernel | None:
    """Return a PrimFunc as nests; None if it is none, or is scheduled already.

    It is none if it has loops of no iteration, or loops that no block is bound to one by one,
    predicates, annotations, parts of buffers, calls with an effect or of functions outside of TVM;
    if two points of a nest may write the same element; or if a point reads what another one of its
    nest writes.
    """
    body = function.body
    if not isinstance(body, SBlockRealize) or function.attrs.get("tirx.is_scheduled", False):
        return None
    root = body.block
    if root.iter_vars or root.match_buffers or root.annotations or root.init is not None:
        return None
    parts = root.body.seq if isinstance(root.body, tirx.SeqStmt) else [root.body]
    try:
        nests = tuple(_nest(part) for part in parts)
    except _OtherFormError:
        return None
    return Kernel(function=function, root=root, nests=nests)


def found(roots: Any, kind: Any) -> list[Any]:
    """Return the nodes of a kind in statements or expressions."""
    nodes: list[Any] = []
    for root in roots:
        tvm_ffi.structural_walk(root, [(kind, nodes.append)])
    return nodes


def uses(root: Any, var: Any) -> bool:
    """Whether an expression depends on a variable."""
    return any(node.same_as(var) for node in found([root], tirx.Var))


def substituted(root: Any, values: Mapping[Any, Any]) -> Any:
    """Return a statement or expression with values for variables."""
    if not values:
        return root
    return tvm_ffi.structural_map(root, (tirx.Var, lambda var: values.get(var, var)))


def with_loads(root: Any, buffer: Any, value: Any) -> Any:
    """Return an expression with a value for every element of a buffer."""
    return tvm_ffi.structural_map(
        root, (TensorLoad, lambda load: value if buffer_of(load).same_as(buffer) else load)
    )


def same(one: Any, other: Any) -> bool:
    """Whether two expressions are the same, of the same variables."""
    return bool(tvm_ffi.structural_equal(one, other))


def _require(holds: Any) -> None:
    if not holds:
        raise _OtherFormError


def _nest(statement: Any) -> Nest:
    loops: dict[Any, Any] = {}
    while isinstance(statement, tirx.For):
        _require(statement.kind == tirx.ForKind.SERIAL and not statement.annotations)
        _require(isinstance(statement.min, tirx.IntImm) and int(statement.min) == 0)
        _require(getattr(statement, "step", None) is None or int(statement.step) == 1)
        loops[statement.loop_var] = statement.extent
        statement = statement.body
    _require(isinstance(statement, SBlockRealize))
    block = statement.block
    _require(isinstance(statement.predicate, tirx.IntImm) and int(statement.predicate) == 1)
    _require(not block.match_buffers and not block.alloc_buffers)
    _require(not set(block.annotations) - {"axis"})  # topi's softmax names its axis.
    axes: dict[Any, Axis] = {}
    fixed: dict[Any, Any] = {}
    for item, value in zip(block.iter_vars, statement.iter_values, strict=True):
        _require(item.iter_type in (_SPATIAL, _REDUCTION))
        _require(isinstance(item.dom.min, tirx.IntImm) and int(item.dom.min) == 0)
        if isinstance(value, tirx.IntImm):
            _require(isinstance(item.dom.extent, tirx.IntImm) and int(item.dom.extent) == 1)
            fixed[item.var] = tirx.IntImm(str(item.var.ty.dtype), int(value))
            continue
        _require(value in loops and value not in axes and same(loops[value], item.dom.extent))
        is_reduction = item.iter_type == _REDUCTION
        axes[value] = Axis(var=item.var, extent=item.dom.extent, is_reduction=is_reduction)
    _require(len(axes) == len(loops))
    ordered = [axes[loop] for loop in loops]
    for axis in ordered:
        _require(axis.static != 0)
        if axis.static == 1:
            fixed[axis.var] = tirx.IntImm(axis.dtype, 0)
    nest = Nest(
        name=str(block.name_hint),
        axes=tuple(axis for axis in ordered if axis.static != 1),
        init=None if block.init is None else substituted(block.init, fixed),
        body=substituted(block.body, fixed),
    )
    _check(nest)
    return nest


def _check(nest: Nest) -> None:
    """Raise unless the points of a nest are independent, and its statements plain."""
    others = [node for node in found(nest.statements, tirx.Stmt) if not isinstance(node, _BODY)]
    _require(not others)
    for call in found(nest.statements, ir_expr.Call):
        _require(isinstance(call.op, Op) and call.op.name not in _BARRED)
        _require(call.op.get_attr("TCallEffectKind") in _PURE)
    places: dict[Any, Any] = {}
    for store in nest.stores:
        place = places.setdefault(store.buffer, store.indices)
        _require(len(place) == len(store.indices) and all(map(same, place, store.indices)))
        _require(not any(found([index], TensorLoad) for index in place))
        for axis in nest.spatial:  # Different points write different elements.
            _require(any(index.same_as(axis.var) for index in place))
        for axis in nest.reductions:
            _require(not any(uses(index, axis.var) for index in place))
    for load in nest.loads:
        if buffer_of(load) in places:
            _require(all(map(same, places[buffer_of(load)], load.indices)))
