"""Where a PrimFunc chooses an index by a score, and the same with the choice as an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import SBlock, TensorLoad, buffer_of, prim


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """A block that keeps the index of the largest or smallest score so far, as argmax does.

    Parameters
    ----------
    block
        Its name.
    index
        The buffer with the index, one for each row of scores.
    scores
        The buffer with the scores.
    axes
        The axes of ``scores`` that it looks along.
    """

    block: str
    index: Any
    scores: Any
    axes: tuple[int, ...]


def choosers(function: tirx.PrimFunc) -> list[Chooser]:
    """Find the blocks of a PrimFunc that choose an index by a score.

    Such a block reduces; it stores the variables that it reduces over, or an index made of them,
    or what was stored before; and it reads one score that it reduces over. ::

        index[i] = select(best[i] > x[i, k] or ..., index[i], k)
        best[i] = select(best[i] > x[i, k], best[i], x[i, k])
    """
    found: list[Chooser] = []

    def look(block: Any) -> None:
        chooser = _chooser(block)
        if chooser is not None:
            found.append(chooser)

    tvm_ffi.structural_walk(function.body, [(SBlock, look)])
    return found


def with_results(function: tirx.PrimFunc, buffers: Sequence[Any]) -> tirx.PrimFunc:
    """Return the PrimFunc with some buffers of its own as parameters, after all others."""
    hidden = {buffer.name for buffer in buffers}

    def change(block: Any) -> Any:
        kept = [b for b in block.alloc_buffers if b.name not in hidden]
        if len(kept) == len(block.alloc_buffers):
            return block
        return _rebuilt(block, body=block.body, alloc_buffers=kept)

    body = tvm_ffi.structural_map(function.body, (SBlock, change))
    return _with_body(function, [*function.params, *buffers], body)


def with_choices(
    function: tirx.PrimFunc, found: Sequence[Chooser]
) -> tuple[tirx.PrimFunc, list[Any]]:
    """Return the PrimFunc with choices as arguments, and these parameters, after all others.

    Each has the shape and dtype of the index of its block. ::

        index[i] = choice[i]
        if k == choice[i]:
            best[i] = x[i, k]
    """
    choices = {
        chooser.block: tirx.decl_buffer(
            chooser.index.shape, str(chooser.index.dtype), f"{chooser.index.name}_choice"
        )
        for chooser in found
    }

    def change(block: Any) -> Any:
        choice = choices.get(str(block.name_hint))
        if choice is None or _chooser(block) is None:
            return block
        return _rebuilt(block, body=_forced(block, choice), alloc_buffers=block.alloc_buffers)

    body = tvm_ffi.structural_map(function.body, (SBlock, change))
    params = list(choices.values())
    return _with_body(function, [*function.params, *params], body), params


def _chooser(block: Any) -> Chooser | None:
    parts = _parts(block)
    if parts is None:
        return None
    index, _, load, axes = parts
    return Chooser(
        block=str(block.name_hint),
        index=index.buffer,
        scores=buffer_of(load),
        axes=axes,
    )


def _parts(block: Any) -> tuple[Any, Any, Any, tuple[int, ...]] | None:
    """Return the store of the index, the index it may take, the score, and its axes."""
    reduced = [v.var for v in block.iter_vars if v.iter_type == tirx.IterVar.CommReduce]
    if not reduced:
        return None
    stores = found_in(block.body, tirx.BufferStore)
    stored = [store.buffer for store in stores]
    bound = {bind.var: bind.value for bind in found_in(block.body, tirx.Bind)}
    taken = [(store, _taken(store, bound, reduced)) for store in stores]
    indices = [(store, arm) for store, arm in taken if arm is not None]
    loads: dict[tuple[Any, tuple[int, ...]], Any] = {}
    for load in found_in(block.body, TensorLoad):
        axes = tuple(
            axis
            for axis, index in enumerate(load.indices)
            if any(index.same_as(variable) for variable in reduced)
        )
        if axes and not any(buffer_of(load).same_as(buffer) for buffer in stored):
            loads[buffer_of(load), axes] = load
    if len(indices) != 1 or len(loads) != 1:
        return None
    ((store, arm),) = indices
    (((_, axes), load),) = loads.items()
    rows = [index for axis, index in enumerate(load.indices) if axis not in axes]
    mine, theirs = _plain(rows), _plain(store.indices)
    is_same_row = len(mine) == len(theirs) and all(
        a.same_as(b) for a, b in zip(mine, theirs, strict=True)
    )
    return (store, arm, load, axes) if is_same_row and len(axes) == len(reduced) else None


def _taken(store: Any, bound: dict[Any, Any], reduced: list[Any]) -> Any | None:
    """Return the index that a store may take; None if it stores no index."""
    if not str(store.buffer.dtype).startswith(("int", "uint")):
        return None
    value = (
        bound.get(store.value, store.value) if isinstance(store.value, tirx.Var) else store.value
    )
    arms = [value]
    if isinstance(value, prim.Select):
        arms = [value.true_value, value.false_value]
    elif getattr(getattr(value, "op", None), "name", "").endswith("if_then_else"):
        arms = list(value.args[1:])
    taken = [arm for arm in arms if _is_index(arm, reduced)]
    kept = [a for a in arms if isinstance(a, TensorLoad) and buffer_of(a).same_as(store.buffer)]
    return taken[0] if len(taken) == 1 and len(taken) + len(kept) == len(arms) else None


def _is_index(expr: Any, reduced: list[Any]) -> bool:
    """Whether an expression is made of the variables of the reduction and constants only."""
    variables = found_in(expr, tirx.Var)
    is_of_them = all(any(v.same_as(r) for r in reduced) for v in variables)
    return bool(variables) and is_of_them and not found_in(expr, TensorLoad)


def _plain(indices: Sequence[Any]) -> list[Any]:
    return [index for index in indices if not isinstance(index, prim.IntImm)]


def _forced(block: Any, choice: Any) -> Any:
    parts = _parts(block)
    assert parts is not None
    index, arm, load, _ = parts
    chosen = tirx.BufferLoad(choice, index.indices)
    is_chosen = prim.EQ(_like(arm, choice), chosen)
    forced: dict[Any, Any] = {}
    for store in found_in(block.body, tirx.BufferStore):
        is_index = store.buffer.same_as(index.buffer)
        new = tirx.BufferStore(store.buffer, chosen if is_index else load, store.indices)
        forced[store.buffer] = new if is_index else tirx.IfThenElse(is_chosen, new, None)
    statements = list(forced.values())
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


def _like(index: Any, buffer: Any) -> Any:
    dtype = str(buffer.dtype)
    return index if str(index.ty.dtype) == dtype else prim.Cast(dtype, index)


def _rebuilt(block: Any, *, body: Any, alloc_buffers: Sequence[Any]) -> Any:
    return SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        body,
        block.init,
        alloc_buffers,
        block.match_buffers,
        block.annotations,
    )


def _with_body(function: tirx.PrimFunc, params: Sequence[Any], body: Any) -> tirx.PrimFunc:
    return tirx.PrimFunc(list(params), body, attrs=function.attrs)


def found_in(statement: Any, kind: Any) -> list[Any]:
    """Return the nodes of a kind in a statement or an expression, itself included."""
    found: list[Any] = []
    tvm_ffi.structural_walk(statement, [(kind, found.append)])
    return found
