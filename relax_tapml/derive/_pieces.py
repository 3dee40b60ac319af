"""A PrimFunc taken apart: its products of two tensors, and kernels for what comes between.

Most of the time of a large kernel goes into sums of products, which a matrix library does many
times faster than a loop of scalars. The rest stays TIR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.arrays import is_float
from relax_tapml.derive._sum_loops import SERIAL, terms_of
from relax_tapml.kernel_flow.expressions import constant, loads, nodes
from relax_tapml.kernel_flow.stores import NotAnalyzableError, stores_of

_INTEGERS = (
    prim.IntImm,
    tirx.Var,
    prim.Add,
    prim.Sub,
    prim.Mul,
    prim.FloorDiv,
    prim.FloorMod,
    prim.Cast,
)


@dataclass(frozen=True, kw_only=True)
class Operand:
    """One factor of a product: an element of a tensor, cast to other floats in turn."""

    buffer: Any
    indices: tuple[Any, ...]
    casts: tuple[str, ...]

    @property
    def variables(self) -> frozenset[Any]:
        """Return the loop variables in its indices."""
        return frozenset(v for index in self.indices for v in nodes(index, tirx.Var))


@dataclass(frozen=True, kw_only=True)
class Product:
    """Loops that store, in each element of a tensor, a sum of products of two tensors. ::

        for i, j, k: C[i, j] = C[i, j] + cast(A[i, k]) * cast(B[k, j])

    Parameters
    ----------
    result
        The tensor.
    indices
        Where it is stored: loop variables and zeros.
    operands
        The factors, in order. Their indices are integer expressions of the loop variables.
    casts
        What the product of the two is cast to in turn.
    reduced
        The variables that are summed over, in the order of the loops.
    extents
        Of all loop variables; all begin at 0.
    """

    result: Any
    indices: tuple[Any, ...]
    operands: tuple[Operand, Operand]
    casts: tuple[str, ...]
    reduced: tuple[Any, ...]
    extents: dict[Any, Any]

    @property
    def read(self) -> tuple[Any, ...]:
        """Return the tensors that it reads."""
        return tuple(operand.buffer for operand in self.operands)

    @property
    def dtypes(self) -> list[str]:
        """Return the dtypes that a term takes in turn, that of the multiplication first."""
        return [_multiplied(self.operands[0]), *self.casts]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Loops as a PrimFunc of their own.

    Parameters
    ----------
    function
        Takes ``buffers``, then ``scalars``.
    buffers
        The parameters and intermediate tensors of the whole that it reads or writes.
    scalars
        Its other variables: dimensions and integer parameters of the whole.
    results
        Numbers of the ``buffers`` that it writes to.
    """

    function: tirx.PrimFunc
    buffers: tuple[Any, ...]
    scalars: tuple[Any, ...]
    results: tuple[int, ...]

    @property
    def read(self) -> tuple[Any, ...]:
        """Return the tensors that it reads and does not write to."""
        return tuple(b for n, b in enumerate(self.buffers) if n not in self.results)


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What a PrimFunc does, one piece after the other.

    Parameters
    ----------
    pieces
        In order. Each tensor is written to in one of them.
    shapes
        Of the intermediate tensors that more than one piece accesses.
    """

    pieces: tuple[Product | Part, ...]
    shapes: dict[Any, tuple[Any, ...]]


def pieces_of(function: tirx.PrimFunc) -> Pieces | None:
    """Take a PrimFunc apart; None where it has no products, or cannot be taken apart.

    Parameters
    ----------
    function
        Without blocks, as ``plain_kernel`` returns it.
    """
    statements = list(_flat(function.body))
    allocated = {s.buffer: s for s in statements if isinstance(s, tirx.AllocBuffer)}
    groups: list[Product | list[Any]] = []
    for statement in statements:
        if isinstance(statement, tirx.AllocBuffer):
            continue
        if not isinstance(statement, tirx.For):
            return None
        product = product_of(statement)
        if product is not None:
            groups.append(product)
        elif groups and isinstance(groups[-1], list):
            groups[-1].append(statement)
        else:
            groups.append([statement])
    if not any(isinstance(group, Product) for group in groups):
        return None
    inputs = {param for param in function.params if tirx.is_buffer_var(param)}
    try:
        pieces = tuple(
            group if isinstance(group, Product) else _part(group, allocated, inputs)
            for group in groups
        )
    except NotAnalyzableError:
        return None
    written = [buffer for piece in pieces for buffer in _written(piece)]
    if len(written) != len(set(written)):
        return None
    return Pieces(pieces=pieces, shapes={b: tuple(b.shape) for b in allocated})


def _flat(statement: Any) -> Iterator[Any]:
    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from _flat(part)
    else:
        yield statement


def _written(piece: Product | Part) -> list[Any]:
    if isinstance(piece, Product):
        return [piece.result]
    return [piece.buffers[number] for number in piece.results]


def _part(loops: Sequence[Any], allocated: Any, inputs: set[Any]) -> Part:
    body = loops[0] if len(loops) == 1 else tirx.SeqStmt(list(loops))
    written = set(stores_of(tirx.PrimFunc([], body)))
    read = {buffer_of(load) for loop in loops for load in loads(loop)}
    known = [b for b in (*inputs, *allocated) if b in written or b in read]
    buffers = tuple(sorted(known, key=lambda buffer: buffer in written))
    bound = {loop.loop_var for whole in loops for loop in nodes(whole, tirx.For)}
    bound |= {bind.var for whole in loops for bind in nodes(whole, tirx.Bind)}
    used = [v for whole in loops for v in nodes(whole, tirx.Var)]
    used += [v for buffer in buffers for extent in buffer.shape for v in nodes(extent, tirx.Var)]
    free = dict.fromkeys(
        variable
        for variable in used
        if variable not in bound and not tirx.is_buffer_var(variable) and variable not in known
    )
    scalars = tuple(free)
    attrs = {"global_symbol": "part", "tirx.noalias": True}
    return Part(
        function=tirx.PrimFunc([*buffers, *scalars], body).with_attrs(attrs),
        buffers=buffers,
        scalars=scalars,
        results=tuple(n for n, buffer in enumerate(buffers) if buffer in written),
    )


def product_of(loop: tirx.For) -> Product | None:
    """Return the product that loops compute; None if they do anything else."""
    extents: dict[Any, Any] = {}
    body: Any = loop
    while isinstance(body, tirx.For):
        is_plain = body.kind in SERIAL and body.step is None and constant(body.min) == 0
        if not is_plain or any(v in extents for v in nodes(body.extent, tirx.Var)):
            return None
        extents[body.loop_var] = body.extent
        body = body.body
    if not isinstance(body, tirx.SeqStmt) or len(body.seq) != 2:
        return None
    start, store = body.seq
    if not isinstance(start, tirx.IfThenElse) or not isinstance(store, tirx.BufferStore):
        return None
    first = start.then_case
    if start.else_case is not None or not isinstance(first, tirx.BufferStore):
        return None
    indices = tuple(store.indices)
    own = [index for index in indices if isinstance(index, tirx.Var)]
    is_simple = all(i in extents if isinstance(i, tirx.Var) else constant(i) == 0 for i in indices)
    reduced = tuple(variable for variable in extents if variable not in set(own))
    if not is_simple or len(set(own)) != len(own) or not reduced:
        return None
    is_start = (
        first.buffer.same_as(store.buffer)
        and [str(i) for i in first.indices] == [str(i) for i in indices]
        and isinstance(first.value, prim.FloatImm)
        and float(first.value.value) == 0.0
        and _zeroed(start.condition) == set(reduced)
    )
    terms = terms_of(store, {})
    if not is_start or terms is None or len(terms) != 1 or not terms[0][0]:
        return None
    casts, factors = _uncast(terms[0][1])
    if not isinstance(factors, prim.Mul):
        return None
    operands = tuple(_operand(part, extents, store.buffer) for part in (factors.a, factors.b))
    left, right = operands
    if left is None or right is None:
        return None
    # Every variable has a part in both factors, or is a row or a column of one.
    if not left.variables & right.variables >= set(reduced):
        return None
    if not left.variables | right.variables >= set(extents):
        return None
    return Product(
        result=store.buffer,
        indices=indices,
        operands=(left, right),
        casts=casts,
        reduced=reduced,
        extents=extents,
    )


def _zeroed(condition: Any) -> set[Any] | None:
    """Return the variables of ``a == 0 and b == 0 and ...``; None for other conditions."""
    if isinstance(condition, prim.And):
        left, right = _zeroed(condition.a), _zeroed(condition.b)
        return None if left is None or right is None else left | right
    if isinstance(condition, prim.EQ) and constant(condition.b) == 0:
        return {condition.a} if isinstance(condition.a, tirx.Var) else None
    return None


def _uncast(expr: Any) -> tuple[tuple[str, ...], Any]:
    """Return the dtypes that casts of floats give in turn, and what is cast."""
    casts: list[str] = []
    while isinstance(expr, prim.Cast) and is_float(str(expr.value.ty.dtype)):
        casts.insert(0, str(expr.ty.dtype))
        expr = expr.value
    return tuple(casts), expr


def _operand(expr: Any, extents: dict[Any, Any], result: Any) -> Operand | None:
    casts, load = _uncast(expr)
    if not isinstance(load, TensorLoad) or not is_float(str(load.ty.dtype)):
        return None
    buffer = buffer_of(load)
    if buffer.same_as(result) or str(buffer.dtype).startswith("float4"):
        return None
    if not all(_is_followed(index, extents) for index in load.indices):
        return None
    return Operand(buffer=buffer, indices=tuple(load.indices), casts=casts)


def _is_followed(index: Any, extents: dict[Any, Any]) -> bool:
    """Return whether an index is an integer expression of loop variables."""
    if not isinstance(index, _INTEGERS):
        return False
    if isinstance(index, tirx.Var):
        return index in extents
    parts = [getattr(index, name, None) for name in ("a", "b", "value")]
    return all(_is_followed(part, extents) for part in parts if isinstance(part, ir_expr.Expr))


def _multiplied(operand: Operand) -> str:
    return operand.casts[-1] if operand.casts else str(operand.buffer.dtype)
