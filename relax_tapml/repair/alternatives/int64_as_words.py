"""64-bit integers as pairs of words, for code generators that have no such integers."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx

from relax_tapml._compat import SBlock, SBlockRealize
from relax_tapml.repair._blocks import changed_block, root_of
from relax_tapml.repair._int64_words import Words
from relax_tapml.repair._retyped import Retyped
from relax_tapml.repair._views import (
    allocated_of,
    parameters_of,
    read_by,
    view_of,
    with_body,
    written_by,
)
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

_DTYPE = "int64"
_ZERO, _ONE, _TWO = (tirx.const(value, _DTYPE) for value in range(3))


class Int64AsWords(Alternative):
    """Reads and writes 64-bit integers as two words, with the values of all 64 bits."""

    name = "int64-as-words"
    layer = Layer.CODE_GENERATION
    text = "with 64-bit integers as pairs of 32-bit words"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None where the target has such integers, or the kernel none."""
        return None if kernel.target.kind.name != "webgpu" else int64_as_words(kernel.plain)


def int64_as_words(kernel: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Return a kernel with other views of its tensors of int64; None if it has none.

    Each such tensor has one more axis, of the words; a block that writes one has it too.

    Raises
    ------
    NotPlainError
        It has no root block.
    ValueError
        The kernel adds up such integers, or has an operation that ``Words`` lacks.
    """
    params, own = parameters_of(kernel, [_DTYPE]), allocated_of(kernel, [_DTYPE])
    if not params and not own:
        return None
    root_of(kernel)
    words: dict[Any, Any] = {}
    views = []
    for param in params:
        words[param], declaration = view_of(param, [*param.shape, _TWO], "uint32")
        views.append(declaration)
    for buffer in own:
        shape, name = [*buffer.shape, _TWO], f"{buffer.name}_words"
        words[buffer] = tirx.decl_buffer(shape, "uint32", name, scope=buffer.scope())

    def load(buffer: Any, indices: list[Any]) -> Words | None:
        found = words.get(buffer)
        return None if found is None else Words(found[(*indices, _ZERO)], found[(*indices, _ONE)])

    retyped = Retyped({_DTYPE: Words}, load)
    axes: list[Any] = []

    def realized(node: Any, mutator: Any) -> Any:
        is_root = node.same_as(kernel.body)
        if is_root or not any(buffer in words for buffer in written_by(node.block)):
            return mutator.default_mutate(node)
        _check_block(node.block, words)
        word, axis = tirx.Var("word", _DTYPE), tirx.Var("v_word", _DTYPE)
        axes.append(axis)
        values = [mutator.mutate(value) for value in node.iter_values]
        predicate = mutator.mutate(node.predicate)
        block = mutator.mutate(node.block)
        axes.pop()
        domain = tirx.IterVar(ir.Range(_ZERO, _TWO), axis, tirx.IterVar.DataPar)
        block = changed_block(block, iter_vars=[*block.iter_vars, domain])
        inner = SBlockRealize([*values, word], predicate, block)
        return tirx.For(word, _ZERO, _TWO, tirx.ForKind.SERIAL, inner)

    def stored(node: Any, mutator: Any) -> Any:
        found = words.get(node.buffer)
        indices = retyped.indices(node.indices, mutator)
        if found is None:
            return tirx.BufferStore(node.buffer, mutator.mutate(node.value), indices)
        value = retyped.value(node.value, mutator)
        word = axes[-1]
        chosen = tirx.Select(word < _ONE, value.low, value.high)
        return tirx.BufferStore(found, chosen, [*indices, word])

    def block(node: Any, mutator: Any) -> Any:
        node = mutator.default_mutate(changed_block(node, reads=[], writes=[]))
        return changed_block(
            node, alloc_buffers=[words.get(one, one) for one in node.alloc_buffers]
        )

    body = tvm_ffi.structural_mutate(
        kernel.body,
        [
            (SBlockRealize, realized),
            (SBlock, block),
            (tirx.BufferStore, stored),
            *retyped.rules(),
        ],
    )
    return with_body(kernel, body, views)


def _check_block(block: Any, words: dict[Any, Any]) -> None:
    """Refuse a block whose words cannot be written one after the other."""
    written = written_by(block.body)
    if block.init is not None or any(buffer in written for buffer in read_by(block.body)):
        raise ValueError(f"block {block.name_hint} adds up {_DTYPE}")
    if not all(buffer in words for buffer in written):
        raise ValueError(f"block {block.name_hint} writes {_DTYPE} and other dtypes")
