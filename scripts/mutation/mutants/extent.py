"""Loops that end one iteration early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place
from relax_tapml._compat import SBlockRealize


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


OFFERS: dict[str, Offer] = {
    "dropped last iteration of a reduction": dropped_reduction,
    "dropped last store": dropped_store,
}
