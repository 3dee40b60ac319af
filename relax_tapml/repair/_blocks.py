"""Blocks of plain kernels, and what else alternatives change of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir.analysis import get_sblock_access_region

from relax_tapml._compat import SBlock, SBlockRealize, TensorLoad, buffer_of

_FIELDS = ("iter_vars", "reads", "writes", "name_hint", "body", "init", "alloc_buffers",
           "match_buffers", "annotations")  # fmt: skip


class NotPlainError(Exception):
    """A kernel is not made of loops and blocks under one root, as operators are lowered."""


def changed_block(block: Any, **fields: Any) -> Any:
    """Return a block with other values of some fields."""
    return SBlock(*(fields.get(name, getattr(block, name)) for name in _FIELDS))


def root_of(kernel: tirx.PrimFunc) -> Any:
    """Return the root block of a kernel. Raises ``NotPlainError`` if it has none."""
    body = kernel.body
    if not isinstance(body, SBlockRealize) or len(body.block.iter_vars):
        raise NotPlainError("the kernel has no root block")
    return body.block


def nests_of(kernel: tirx.PrimFunc) -> list[Any]:
    """Return the statements under the root block."""
    body = root_of(kernel).body
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]


def with_root(
    kernel: tirx.PrimFunc,
    nests: Sequence[Any],
    buffers: Sequence[Any],
    params: Sequence[Any] | None = None,
) -> tirx.PrimFunc:
    """Return a kernel of other statements and buffers under its root block.

    Parameters
    ----------
    kernel
        Its attributes are kept.
    nests, buffers
        The statements, and all buffers that they have in common and that are no parameters.
    params
        By default those of the kernel.
    """
    body = nests[0] if len(nests) == 1 else tirx.SeqStmt(list(nests))
    root = changed_block(root_of(kernel), body=body, alloc_buffers=list(buffers))
    own = kernel.params if params is None else params
    realize = SBlockRealize([], True, root)
    return tirx.PrimFunc(list(own), realize, kernel.ret_type, kernel.attrs)


def allocated(kernel: tirx.PrimFunc) -> list[Any]:
    """Return the buffers that blocks of a kernel allocate."""
    found: list[Any] = []
    tvm_ffi.structural_walk(kernel.body, (SBlock, lambda block: found.extend(block.alloc_buffers)))
    return found


def dtype_of(expr: Any) -> str:
    """Return the dtype of an expression."""
    return str(getattr(expr.ty, "dtype", expr.ty))


def accumulates(store: Any) -> bool:
    """Whether a store adds to the element that it writes."""
    if not isinstance(store, tirx.BufferStore) or not hasattr(store.value, "a"):
        return False
    old = store.value.a
    return isinstance(old, TensorLoad) and bool(
        buffer_of(old).same_as(store.buffer)
        and tvm_ffi.structural_equal(list(old.indices), list(store.indices), map_free_vars=True)
    )


def sums_of(kernel: tirx.PrimFunc, kinds: Sequence[Any]) -> list[Any]:
    """Return the blocks that reduce by one of the kinds of operations, such as ``prim.Add``."""
    blocks: list[Any] = []
    tvm_ffi.structural_walk(kernel.body, (SBlock, blocks.append))
    return [
        block
        for block in blocks
        if isinstance(block.init, tirx.BufferStore)
        and accumulates(block.body)
        and isinstance(block.body.value, tuple(kinds))
    ]


def with_regions(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Make every block but the root declare what it reads and writes."""
    buffers = [p for p in kernel.params if tirx.is_buffer_var(p)] + allocated(kernel)
    views = (tirx.DeclBuffer, lambda declaration: buffers.append(declaration.buffer))
    tvm_ffi.structural_walk(kernel.body, views)
    visible = {buffer: buffer for buffer in buffers}

    def visit(block: Any, mutator: Any) -> Any:
        block = mutator.default_mutate(block)
        if not block.iter_vars:
            return block
        reads, writes, _ = get_sblock_access_region(block, visible)
        return changed_block(block, reads=reads, writes=writes)

    return tvm_ffi.structural_mutate(kernel, [(SBlock, visit)])


def with_buffers(
    kernel: tirx.PrimFunc,
    buffers: Mapping[Any, Any],
    load: Callable[[Any, list[Any]], Any],
    store: Callable[[Any, Any, list[Any]], Any],
    place: Callable[[Any, list[Any]], list[Any]] = lambda _buffer, indices: indices,
) -> tirx.PrimFunc:
    """Return a kernel with other buffers in the place of some.

    Parameters
    ----------
    kernel
        Without a schedule.
    buffers
        What each becomes.
    load
        Returns what is in the place of a load, from the new buffer and the indices.
    store
        Returns what is stored in the place of a store: from the store, its new value and indices.
    place
        Returns where in the new buffer it is stored.
    """

    def loads(node: Any, mutator: Any) -> Any:
        new = buffers.get(buffer_of(node))
        if new is None:
            return mutator.default_mutate(node)
        return load(new, [mutator.mutate(index) for index in node.indices])

    def stores(node: Any, mutator: Any) -> Any:
        new = buffers.get(node.buffer)
        if new is None:
            return mutator.default_mutate(node)
        indices = [mutator.mutate(index) for index in node.indices]
        value = store(node, mutator.mutate(node.value), indices)
        return tirx.BufferStore(new, value, place(new, indices))

    def var(node: Any, mutator: Any) -> Any:
        new = buffers.get(node)
        return mutator.default_mutate(node) if new is None else new

    changed = tvm_ffi.structural_mutate(
        kernel, [(tirx.BufferStore, stores), (TensorLoad, loads), (tirx.Var, var)]
    )
    return with_regions(changed)


def module_of(kernel: tirx.PrimFunc) -> tvm.IRModule:
    """Return a module for a schedule of one kernel."""
    return tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
