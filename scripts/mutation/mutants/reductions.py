"""Reductions that end early, begin wrongly, or have one wrong term among many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import SBlockRealize, TensorLoad, buffer_of, prim


def dropped_reduction(node: Any, _: Place) -> Iterator[Edit]:
    """Leave the last iteration of a reduction out."""
    if isinstance(node, tirx.For) and _is_reduction(node):
        yield from _shorter(node)


def dropped_store(node: Any, _: Place) -> Iterator[Edit]:
    """Leave the last iteration of any other loop out, so that its elements are never stored."""
    if isinstance(node, tirx.For) and not _is_reduction(node):
        yield from _shorter(node)


def _shorter(loop: tirx.For) -> Iterator[Edit]:
    if isinstance(loop.extent, tirx.IntImm) and int(loop.extent) == 1:
        return
    (first, *_) = _realizes(loop)
    yield Edit(
        where=f"{first.block.name_hint}: loop {loop.loop_var.name} without its last iteration",
        node=tirx.For(
            loop.loop_var,
            loop.min,
            loop.extent - 1,
            loop.kind,
            loop.body,
            loop.thread_binding,
            loop.annotations,
        ),
    )


def _is_reduction(loop: tirx.For) -> bool:
    for realize in _realizes(loop):
        for value, variable in zip(realize.iter_values, realize.block.iter_vars, strict=True):
            if value.same_as(loop.loop_var):
                return bool(variable.iter_type == tirx.IterVar.CommReduce)
    return False


def _realizes(loop: tirx.For) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(loop, [(SBlockRealize, found.append)])
    return found


def missing_init(node: Any, place: Place) -> Iterator[Edit]:
    """Begin with what may be in memory, which is the same in every run here: 1, or 0 for a maximum.

    A sum that is never set to zero adds to what was there before.
    """
    if not isinstance(node, tirx.BufferStore) or place.realize is None:
        return
    init = place.realize.block.init
    if init is None or not init.same_as(node):
        return
    dtype = node.value.ty.dtype
    is_zero = isinstance(node.value, tirx.FloatImm | tirx.IntImm) and float(node.value.value) == 0
    garbage = tirx.const(1 if is_zero else 0, str(dtype))
    yield Edit(
        where=f"{place.block}: begins with {1 if is_zero else 0}",
        node=tirx.BufferStore(node.buffer, garbage, node.indices),
    )


_FEWEST = 4


def dropped_term(node: Any, place: Place) -> Iterator[Edit]:
    """Leave one term of a sum out: the first, one in the middle, the one before the last."""
    for at, _, term in _terms(node, place):
        nothing = tirx.const(0, str(term.ty.dtype))
        yield _with_term(node, place, prim.Select(at, nothing, term), at)


def doubled_term(node: Any, place: Place) -> Iterator[Edit]:
    """Add one term of a sum twice."""
    for at, _, term in _terms(node, place):
        yield _with_term(node, place, prim.Select(at, term + term, term), at)


def mispaired_term(node: Any, place: Place) -> Iterator[Edit]:
    """In one product of a sum, take the next value of one factor."""
    for at, variable, term in _terms(node, place):
        if not isinstance(term, prim.Mul):
            continue
        before = prim.Select(at, variable + tirx.const(1, str(variable.ty.dtype)), variable)
        next_one = {variable: before}
        moved = tvm_ffi.structural_map(
            term.a, [(tirx.Var, lambda var, n=next_one: n.get(var, var))]
        )
        yield _with_term(node, place, moved * term.b, at)


def _with_term(node: Any, place: Place, term: Any, at: Any) -> Edit:
    edit = instead(place, node, prim.Add(node.a, term))
    return Edit(
        where=f"{place.block}: where {at}: {edit.where.rpartition('-> ')[2]}", node=edit.node
    )


def _terms(node: Any, place: Place) -> Iterator[tuple[Any, Any, Any]]:
    """Yield places in a reduction that a sum stores to: condition, variable and term."""
    if not place.is_value or not isinstance(node, prim.Add) or place.realize is None:
        return
    store = place.store
    if not store.value.same_as(node) or not isinstance(node.a, TensorLoad):
        return
    is_sum = buffer_of(node.a).same_as(store.buffer) and all(
        map(tvm_ffi.structural_equal, node.a.indices, store.indices)
    )
    reduced = [
        variable
        for variable in place.realize.block.iter_vars
        if variable.iter_type == tirx.IterVar.CommReduce
        and isinstance(variable.dom.extent, tirx.IntImm)
        and int(variable.dom.extent) >= _FEWEST
    ]
    if not is_sum or not reduced:
        return
    longest = max(reduced, key=lambda variable: int(variable.dom.extent))
    extent, variable = int(longest.dom.extent), longest.var
    for at in (0, extent // 2 - 1, extent - 2):
        yield prim.EQ(variable, tirx.const(at, str(variable.ty.dtype))), variable, node.b


OFFERS: dict[str, Offer] = {
    "dropped last iteration of a reduction": dropped_reduction,
    "dropped last store": dropped_store,
    "missing initialisation": missing_init,
    "dropped term": dropped_term,
    "doubled term": doubled_term,
    "mispaired term": mispaired_term,
}
