"""Whether and how a reduction is computed in tiles of vector registers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, prim, prim_op
from relax_tapml.arrays import is_integer
from relax_tapml.cpu_schedule._nests import Axis, Nest, found, same, uses, with_loads
from relax_tapml.cpu_schedule._registers import Registers
from relax_tapml.cpu_schedule._sums import Sums

_DTYPES = frozenset(
    {"float16", "bfloat16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_DIVISIONS = (prim.Div, prim.Mod, prim.FloorDiv, prim.FloorMod)
_LEAST_LANES = 8
_LEAST_TERMS = 4
# From this many rows on, a contiguous operand is packed too: its rows lie in different pages.
_PACKED_ROWS = 8
_MOST_ROWS = 8
_MOST_NODES = 64


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """How a reduction is computed in tiles of ``rows`` x ``lanes`` elements of its result.

    Parameters
    ----------
    nest
        The reduction: one store, and one that initialises.
    lane
        The axis along which elements lie in a vector.
    lanes
        How many elements of it a tile has.
    row
        The axis along which a tile has several rows, which use the same vectors; None for one row.
    rows
        How many rows a tile has.
    template
        The value to store, with ``sum`` for what was stored before and ``operand`` for what is
        packed.
    sum, operand
        Variables.
    packed
        The expression that is packed; None to read it where it lies.
    is_contiguous
        Whether what neighbouring lanes read are neighbours in memory.
    sums
        Where sums are while they grow.
    """

    nest: Nest
    lane: Axis
    lanes: int
    row: Axis | None
    rows: int
    template: Any
    sum: Any
    operand: Any
    packed: Any
    is_contiguous: bool
    sums: Sums

    @property
    def has_tail(self) -> bool:
        """Whether the last tile may have fewer lanes."""
        return self.lane.static is None or self.lane.static % self.lanes != 0


def tile_plan(nest: Nest, registers: Registers, inner: Sequence[Any]) -> TilePlan | None:
    """Return how to compute a reduction in tiles; None where they do not help.

    Parameters
    ----------
    nest
        Any nest.
    registers
        Of the CPU.
    inner
        The buffers that are inside the kernel.
    """
    store, first = nest.body, nest.init
    if not nest.reductions or not all(isinstance(s, tirx.BufferStore) for s in nest.statements):
        return None
    dtype = store.value.ty.dtype
    if first is None or first.buffer != store.buffer or str(dtype) not in _DTYPES:
        return None
    if math.prod(axis.size for axis in nest.reductions) < _LEAST_TERMS:
        return None
    lane = _lane(nest)
    if lane is None or len(found([store.value], ir_expr.Expr)) > _MOST_NODES:
        return None
    before = tirx.Var("sum", str(dtype))
    value = with_loads(store.value, store.buffer, before)
    operands: list[Any] = []
    if uses(first.value, lane.var) or not _collect(value, lane, operands):
        return None
    shared = [
        axis
        for axis in nest.spatial
        if axis is not lane and not any(uses(operand, axis.var) for operand in operands)
    ]
    row = max(shared, key=lambda axis: axis.size, default=None)
    is_contiguous = all(_is_contiguous(operand, lane) for operand in operands)
    can_pack = len(operands) == 1 and row is not None
    if not is_contiguous and not can_pack:
        return None
    lanes = _lanes(lane, registers, dtype, has_rows=row is not None)
    has_tail = lane.static is None or lane.static % lanes != 0
    packed = None
    operand = tirx.Var("operand", str(operands[0].ty.dtype)) if operands else None
    if can_pack and row is not None and (not is_contiguous or has_tail or row.size >= _PACKED_ROWS):
        (packed,) = operands
        value = tvm_ffi.structural_map(
            value, (type(packed), lambda node: operand if same(node, packed) else node)
        )
        if uses(value, lane.var) or _divides(value, operand):
            return None
    vectors = math.ceil(lanes / registers.lanes(dtype))
    return TilePlan(
        nest=nest,
        lane=lane,
        lanes=lanes,
        row=row,
        rows=_rows(row, registers, vectors),
        template=value,
        sum=before,
        operand=operand,
        packed=packed,
        is_contiguous=is_contiguous,
        sums=Sums.of(nest, inner),
    )


def _lane(nest: Nest) -> Axis | None:
    """Return the axis along which results are contiguous, or a longer one where it is short."""
    wide = [axis for axis in nest.spatial if axis.size >= _LEAST_LANES]
    last = nest.body.indices[-1] if nest.body.indices else None
    contiguous = [axis for axis in wide if axis.var.same_as(last)]
    return contiguous[0] if contiguous else max(wide, key=lambda axis: axis.size, default=None)


def _collect(expr: Any, lane: Axis, operands: list[Any]) -> bool:
    """Add the operands that depend on a lane, each once; False if there are other such parts.

    An operand is a tensor's element, also converted, or a choice of one, as padding is.
    """
    if not uses(expr, lane.var):
        return True
    if _is_operand(expr):
        if not any(same(expr, operand) for operand in operands):
            operands.append(expr)
        return True
    if isinstance(expr, prim.Cast):
        parts = [expr.value]
    elif isinstance(expr, prim.Add | prim.Sub | prim.Mul | prim.Max | prim.Min):
        parts = [expr.a, expr.b]
    else:
        return False
    return all(_collect(part, lane, operands) for part in parts)


def _is_operand(expr: Any) -> bool:
    if isinstance(expr, prim.Cast):
        return isinstance(expr.value, TensorLoad)
    if isinstance(expr, ir_expr.Call) and str(expr.op.name) == prim_op("if_then_else"):
        return all(
            isinstance(arm, TensorLoad | tirx.FloatImm | tirx.IntImm) for arm in expr.args[1:]
        )
    return isinstance(expr, TensorLoad)


def _is_contiguous(operand: Any, lane: Axis) -> bool:
    """Whether the elements of neighbouring lanes are neighbours in memory."""
    load = operand.value if isinstance(operand, prim.Cast) else operand
    if not isinstance(load, TensorLoad):
        return False
    *others, last = load.indices
    if any(uses(index, lane.var) for index in others) or found([last], TensorLoad):
        return False
    parts = [last]
    while parts:
        part = parts.pop()
        if part.same_as(lane.var):
            return not any(uses(other, lane.var) for other in parts)
        if isinstance(part, prim.Add):
            parts += [part.a, part.b]
        elif uses(part, lane.var):
            return False
    return False


def _divides(value: Any, operand: Any) -> bool:
    """Whether lanes that hold no element could divide an integer by zero."""
    return any(
        is_integer(str(node.ty.dtype)) and uses(node, operand)
        for node in found([value], _DIVISIONS)
    )


def _lanes(lane: Axis, registers: Registers, dtype: Any, *, has_rows: bool) -> int:
    single = registers.lanes(dtype)
    most = (4 if registers.count >= 32 else 2) * (1 if has_rows else 2)
    if lane.static is None:
        return most * single
    if lane.static < single:
        return 1 << (lane.static - 1).bit_length()
    counts = range(most, max(1, most // 2) - 1, -1)
    return single * min(counts, key=lambda count: math.ceil(lane.size / (count * single)) * count)


def _rows(row: Axis | None, registers: Registers, vectors: int) -> int:
    """Return how many rows fit into the registers and waste the least work."""
    if row is None:
        return 1
    most = max(1, min(_MOST_ROWS, (registers.count - 2) // vectors - 1))
    if row.static is None:
        return min(4, most)
    counts = range(most, max(1, most // 2) - 1, -1)
    return min(counts, key=lambda count: math.ceil(row.size / count) * count)
