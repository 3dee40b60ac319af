"""Systematic edits of a PrimFunc: every place where something can be replaced, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir.analysis import get_sblock_access_region

from mutation.expression_text import text_of
from relax_tapml._compat import SBlock, SBlockRealize, TensorLoad, TensorRegion

_DECLARED = (TensorRegion, tirx.IterVar, tvm.ir.Type)
_ACCESSES = (TensorLoad, tirx.BufferStore)
_BLOCK_FIELDS = ("iter_vars", "reads", "writes", "name_hint", "body", "init", "alloc_buffers",
                 "match_buffers", "annotations")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a function a node stands.

    Parameters
    ----------
    block
        The name of the innermost block.
    parent
        The node right above; lists do not count.
    store
        The store that the node is part of, or None.
    realize
        What runs the innermost block.
    loops
        The loops around the node, outermost first.
    is_index
        Whether the node is part of an index of a load or store.
    is_init
        Whether it belongs to the initialisation of a reduction.
    is_declared
        Whether it only declares something: a type, a region, the range of a variable.
    """

    block: str = ""
    parent: Any = None
    store: Any = None
    realize: Any = None
    loops: tuple[Any, ...] = ()
    is_index: bool = False
    is_init: bool = False
    is_declared: bool = False

    @property
    def is_value(self) -> bool:
        """Whether the node is part of a stored value, and of no index in it."""
        return self.store is not None and not self.is_index and not self.is_init

    def below(self, node: Any) -> Place:
        """Return the place of the children of ``node``, which stands here."""
        if isinstance(node, _DECLARED):
            return replace(self, is_declared=True)
        if isinstance(node, tvm_ffi.Array):
            return replace(self, is_index=self.is_index or isinstance(self.parent, _ACCESSES))
        place = replace(self, parent=node)
        if isinstance(node, SBlock):
            return replace(place, block=node.name_hint)
        if isinstance(node, SBlockRealize):
            return replace(place, realize=node)
        if isinstance(node, tirx.For):
            return replace(place, loops=(*self.loops, node))
        if isinstance(node, tirx.BufferStore):
            init = self.realize.block.init if self.realize is not None else None
            return replace(place, store=node, is_init=init is not None and init.same_as(node))
        return place


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One node in place of another, and what that is, in words for people."""

    where: str
    node: Any


def instead(place: Place, old: Any, new: Any) -> Edit:
    """Return the edit that puts one expression in place of another."""
    return Edit(where=f"{place.block}: {text_of(old)} -> {text_of(new)}", node=new)


Offer = Callable[[Any, Place], Iterable[Edit]]


def edits(function: tirx.PrimFunc, offer: Offer) -> Iterator[tuple[str, tirx.PrimFunc]]:
    """Yield the function once for each edit that is offered anywhere, with that edit done.

    Parameters
    ----------
    function
        Not changed.
    offer
        Called with every node that computes something, parents first, and its place; returns the
        edits to try there. The nodes it returns are taken as they are.

    Yields
    ------
    tuple
        What was done and where, and the edited function, whose blocks declare what they access.
    """
    offered: list[tuple[int, Edit]] = []

    def note(position: int, node: Any, place: Place) -> None:
        offered.extend((position, edit) for edit in offer(node, place))

    _visit(function, note)
    for position, edit in offered:
        yield edit.where, _applied(function, {position: edit.node})


def edit_all(
    function: tirx.PrimFunc, offer: Callable[[Any, Place], Any]
) -> tuple[int, tirx.PrimFunc]:
    """Replace every node for which ``offer`` returns another one, and count them.

    What is replaced is not looked at again.
    """
    count = 0

    def chosen(_: int, node: Any, place: Place) -> Any:
        nonlocal count
        found = offer(node, place)
        count += found is not None
        return found

    edited = _visit(function, chosen)
    return count, with_declared_regions(edited) if count else function


def _applied(function: tirx.PrimFunc, nodes: dict[int, Any]) -> tirx.PrimFunc:
    return with_declared_regions(_visit(function, lambda position, *_: nodes.get(position)))


def _visit(function: tirx.PrimFunc, chosen: Callable[[int, Any, Place], Any]) -> Any:
    """Visit all nodes in a fixed order; replace those for which ``chosen`` returns a node."""
    position = -1
    places = [Place()]

    def visit(node: Any, mutator: Any) -> Any:
        nonlocal position
        position += 1
        place = places[-1]
        if not place.is_declared and not isinstance(node, (*_DECLARED, tvm_ffi.Array)):
            found = chosen(position, node, place)
            if found is not None:
                return found
        places.append(place.below(node))
        try:
            return mutator.default_mutate(node)
        finally:
            places.pop()

    return tvm_ffi.structural_mutate(function, [(tvm_ffi.Object, visit)])


def changed_block(block: Any, **fields: Any) -> Any:
    """Return a block with other values of some fields."""
    return SBlock(*(fields.get(name, getattr(block, name)) for name in _BLOCK_FIELDS))


def with_declared_regions(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Make every block but the root declare the regions that it now reads and writes."""
    buffers = dict.fromkeys(p for p in function.params if tirx.is_buffer_var(p))

    def collect(block: Any) -> None:
        buffers.update(dict.fromkeys(block.alloc_buffers))

    tvm_ffi.structural_walk(function, [(SBlock, collect)])
    visible = {buffer: buffer for buffer in buffers}

    def visit(block: Any, mutator: Any) -> Any:
        block = mutator.default_mutate(block)
        if not block.iter_vars:
            return block
        reads, writes, _ = get_sblock_access_region(block, visible)
        return changed_block(block, reads=reads, writes=writes)

    return tvm_ffi.structural_mutate(function, [(SBlock, visit)])
