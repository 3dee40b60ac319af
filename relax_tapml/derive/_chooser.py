"""Blocks of a PrimFunc that choose an index by a score, and ways to control their choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import SBlock, TensorLoad, buffer_of, prim
from relax_tapml.kernel_flow.expressions import choice_of, loads, nodes


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """A block that keeps the index of the largest or smallest score so far, as argmax does.

    Parameters
    ----------
    block
        Its name.
    index
        The buffer of the index, one for each row of scores.
    scores
        A new buffer for the scores: a row for each index, along the last axes.
    is_largest
        Whether it looks for the largest score: its initial value is then negative. None where the
        initial value does not decide this.
    """

    block: str
    index: Any
    scores: Any
    is_largest: bool | None


def choosers(function: tirx.PrimFunc) -> list[Chooser]:
    """Find the blocks of a PrimFunc that choose an index by a score.

    Such a block is a reduction that stores either the value stored before, or an index made of the
    variables that it reduces over. With the index it stores the score, or it reads just one
    score. ::

        index[i] = select(best[i] > x[i, k] or ..., index[i], k)
        best[i] = select(best[i] > x[i, k], best[i], x[i, k])
    """
    found: list[Chooser] = []

    def visit(block: Any) -> None:
        chooser = _chooser(block)
        if chooser is not None:
            found.append(chooser)

    tvm_ffi.structural_walk(function.body, [(SBlock, visit)])
    return found


def with_scores(
    function: tirx.PrimFunc, found: Sequence[Chooser], *, is_chosen: bool = True
) -> tirx.PrimFunc:
    """Return the PrimFunc with indices and scores as results, after all other parameters.

    These parameters are the ``extra_results`` of the PrimFunc. Each block also stores its scores::

        scores[i, k] = x[i, k]

    Parameters
    ----------
    function, found
        The PrimFunc and its ``choosers``.
    is_chosen
        Whether the blocks choose. Otherwise they only store their scores, and the index is 0.
    """
    extra = extra_results(function, found)
    hidden = {buffer.name for buffer in extra}
    scores = {chooser.block: chooser.scores for chooser in found}

    def change(block: Any) -> Any:
        kept = [b for b in block.alloc_buffers if b.name not in hidden]
        parts = _parts(block) if str(block.name_hint) in scores else None
        body = block.body
        if parts is not None:
            buffer = scores[str(block.name_hint)]
            place = [*parts.index.indices, *(v.var for v in parts.reduced)]
            index = parts.index
            zero = tirx.const(0, str(index.buffer.dtype))
            rest = body if is_chosen else tirx.BufferStore(index.buffer, zero, index.indices)
            body = tirx.SeqStmt([tirx.BufferStore(buffer, parts.score, place), rest])
        elif len(kept) == len(block.alloc_buffers):
            return block
        return _rebuilt(block, body=body, alloc_buffers=kept)

    body = tvm_ffi.structural_map(function.body, (SBlock, change))
    return _with_body(function, [*function.params, *extra], body)


def extra_results(function: tirx.PrimFunc, found: Sequence[Chooser]) -> list[Any]:
    """Return the buffers that ``with_scores`` adds to the parameters, in order."""
    own = [chooser.index for chooser in found if chooser.index not in list(function.params)]
    return [*own, *(chooser.scores for chooser in found)]


def with_choices(
    function: tirx.PrimFunc, found: Sequence[Chooser]
) -> tuple[tirx.PrimFunc, list[Any]]:
    """Return the PrimFunc with choices as its last parameters, and these parameters.

    Each has the shape and dtype of the index of its block::

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


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The parts of a chooser.

    Parameters
    ----------
    index
        The store of the index.
    taken
        The index that it stores where a score is better.
    score
        That score.
    others
        The other stores, each with the value that it stores where the score is better.
    reduced
        The variables that the block reduces over.
    """

    index: Any
    taken: Any
    score: Any
    others: list[tuple[Any, Any]]
    reduced: list[Any]


def _chooser(block: Any) -> Chooser | None:
    parts = _parts(block)
    if parts is None:
        return None
    index = parts.index.buffer
    extents = [variable.dom.extent for variable in parts.reduced]
    name = f"{index.name}_scores"
    dtype = str(parts.score.ty.dtype)
    scores = tirx.decl_buffer([*index.shape, *extents], dtype, name)
    return Chooser(
        block=str(block.name_hint),
        index=index,
        scores=scores,
        is_largest=_is_largest(block, [store.buffer for store, _ in parts.others]),
    )


def _is_largest(block: Any, bests: Sequence[Any]) -> bool | None:
    stores = [] if block.init is None else nodes(block.init, tirx.BufferStore)
    initial = [
        float(store.value.value)
        for store in stores
        if any(store.buffer.same_as(best) for best in bests)
        and isinstance(store.value, prim.FloatImm | prim.IntImm)
    ]
    return initial[0] < 0 if len(initial) == 1 and initial[0] != 0 else None


def _parts(block: Any) -> _Parts | None:
    reduced = [v for v in block.iter_vars if v.iter_type == tirx.IterVar.CommReduce]
    variables = [v.var for v in reduced]
    if not reduced:
        return None
    stores = nodes(block.body, tirx.BufferStore)
    bound = {bind.var: bind.value for bind in nodes(block.body, tirx.Bind)}
    indices: list[tuple[Any, Any]] = []
    others: list[tuple[Any, Any]] = []
    for store in stores:
        taken = _taken(store, bound)
        if taken is None:
            return None
        is_index = str(store.buffer.dtype).startswith(("int", "uint"))
        (indices if is_index and _is_index(taken, variables) else others).append((store, taken))
    if len(indices) != 1:
        return None
    ((index, taken),) = indices
    scores = [arm for _, arm in others] or _read(block, variables, index.buffer)
    is_one = scores and all(tvm_ffi.structural_equal(scores[0], s) for s in scores)
    if not is_one or not loads(scores[0]):
        return None
    return _Parts(index=index, taken=taken, score=scores[0], others=others, reduced=reduced)


def _read(block: Any, variables: list[Any], index: Any) -> list[Any]:
    """Return the loads of a block whose indices have a variable of the reduction."""
    return [
        load
        for load in loads(block.body)
        if not buffer_of(load).same_as(index)
        and any(i.same_as(variable) for i in load.indices for variable in variables)
    ]


def _taken(store: Any, bound: dict[Any, Any]) -> Any | None:
    """Return the value that a store may put in place of the stored one.

    None if the store does anything but choose between the two.
    """
    value = (
        bound.get(store.value, store.value) if isinstance(store.value, tirx.Var) else store.value
    )
    choice = choice_of(value)
    arms = [value] if choice is None else list(choice[1:])
    if isinstance(value, prim.Max | prim.Min):
        arms = [value.a, value.b]
    others = [a for a in arms if not _is_of(a, store.buffer)]
    return others[0] if len(others) == 1 and not _reads(others[0], store.buffer) else None


def _is_of(expr: Any, buffer: Any) -> bool:
    return isinstance(expr, TensorLoad) and bool(buffer_of(expr).same_as(buffer))


def _reads(expr: Any, buffer: Any) -> bool:
    return any(buffer_of(load).same_as(buffer) for load in loads(expr))


def _is_index(expr: Any, reduced: list[Any]) -> bool:
    """Return whether an expression has only variables of the reduction and constants."""
    variables = nodes(expr, tirx.Var)
    is_of_them = all(any(v.same_as(r) for r in reduced) for v in variables)
    return bool(variables) and is_of_them and not loads(expr)


def _forced(block: Any, choice: Any) -> Any:
    parts = _parts(block)
    assert parts is not None
    chosen = tirx.BufferLoad(choice, parts.index.indices)
    is_chosen = prim.EQ(_like(parts.taken, choice), chosen)
    statements = [tirx.BufferStore(parts.index.buffer, chosen, parts.index.indices)]
    statements += [
        tirx.IfThenElse(is_chosen, tirx.BufferStore(store.buffer, taken, store.indices), None)
        for store, taken in parts.others
    ]
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
