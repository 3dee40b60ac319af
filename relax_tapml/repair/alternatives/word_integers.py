"""Integers of 32 bits in the place of 64-bit integers, bytes and truth values.

WebGPU has no other integers, and TVM generates no code for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from relax_tapml._compat import SBlock, SBlockRealize, TensorLoad, bitwise, buffer_of, prim
from relax_tapml.repair._blocks import (
    allocated,
    dtype_of,
    nests_of,
    root_of,
    with_regions,
    with_root,
)
from relax_tapml.repair._scheduled import as_scheduled, scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

_WORD = "int32"
_BYTES = ("bool", "int8", "uint8")
_OTHER = ("int64", *_BYTES)
# What conditions of statements are made of.
_COMPARISONS = (prim.EQ, prim.NE, prim.LT, prim.LE, prim.GT, prim.GE, TensorLoad)


class WordIntegers(Alternative):
    """Copies such tensors to words first, calculates in words, and copies the results back.

    Parameters keep their dtypes: the copies see them as arrays of words. Values outside of 32 bits
    become wrong, which the cases of a unit show only if one has such a value. Bytes must be a
    multiple of four, since a word is the least that can be stored.
    """

    name = "word-integers"
    layer = Layer.CODE_GENERATION
    text = "with integers of 32 bits in the place of others"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None on CPUs, and if it has no such tensor of a constant shape."""
        if not kernel.is_for_gpu:
            return None
        plain = kernel.plain
        own = [p for p in plain.params if tirx.is_buffer_var(p) and str(p.dtype) in _OTHER]
        inner = [b for b in allocated(plain) if str(b.dtype) in _OTHER]
        if (not own and not inner) or not all(_has_words(buffer) for buffer in own):
            return None
        words = {b: tirx.decl_buffer(b.shape, _WORD, f"{b.name}_words") for b in (*own, *inner)}
        seen = {b: tirx.decl_buffer([_word_count(b)], _WORD, f"{b.name}_seen") for b in own}
        read, written = _accessed(plain)
        body = _Words(words).kernel(plain)
        nests = [
            *(_unpacked(seen[b], words[b], str(b.dtype)) for b in own if b in read),
            *nests_of(body),
            *(_packed(words[b], seen[b], str(b.dtype)) for b in own if b in written),
        ]
        params = [seen.get(p, p) for p in plain.params]
        buffers = [*root_of(body).alloc_buffers, *(words[b] for b in own)]
        made = with_regions(with_root(body, nests, buffers, params))
        module = tirx.transform.ForceNarrowIndexToInt32()(ir.IRModule({"main": made}))
        return as_scheduled(
            _with_views(scheduled(module["main"], kernel.target), plain.params, own)
        )


def _has_words(buffer: Any) -> bool:
    if not all(isinstance(extent, tirx.IntImm) for extent in buffer.shape):
        return False
    return str(buffer.dtype) == "int64" or _size(buffer) % 4 == 0


def _size(buffer: Any) -> int:
    return math.prod(int(extent) for extent in buffer.shape)


def _word_count(buffer: Any) -> int:
    return _size(buffer) * 2 if str(buffer.dtype) == "int64" else _size(buffer) // 4


def _accessed(kernel: tirx.PrimFunc) -> tuple[set[Any], set[Any]]:
    """Return the buffers that a kernel reads and those that it writes.

    What a block adds up is not read, since the block also begins it.
    """
    read: set[Any] = set()

    def block(node: Any, mutator: Any) -> Any:
        begun.append(_stored_in(node.init) if node.init is not None else set())
        mutator.default_mutate(node)
        begun.pop()
        return node

    def load(node: Any, mutator: Any) -> Any:
        buffer = buffer_of(node)
        if not any(buffer in one for one in begun):
            read.add(buffer)
        return mutator.default_mutate(node)

    begun: list[set[Any]] = []
    tvm_ffi.structural_mutate(kernel.body, [(SBlock, block), (TensorLoad, load)])
    return read, _stored_in(kernel.body)


def _stored_in(body: Any) -> set[Any]:
    found: set[Any] = set()
    tvm_ffi.structural_walk(body, (tirx.BufferStore, lambda store: found.add(store.buffer)))
    return found


def _nest(name: str, extents: list[int], body: Callable[[list[Any]], Any]) -> Any:
    """Return a loop nest of one block."""
    axes = [
        tirx.IterVar((0, extent), tirx.Var(f"v{n}", _WORD), tirx.IterVar.DataPar)
        for n, extent in enumerate(extents)
    ]
    loops = [tirx.Var(f"i{n}", _WORD) for n in range(len(extents))]
    block = SBlock(axes, [], [], name, body([axis.var for axis in axes]))
    nest: Any = SBlockRealize(loops, True, block)
    for loop, extent in reversed(list(zip(loops, extents, strict=True))):
        nest = tirx.For(loop, 0, extent, tirx.ForKind.SERIAL, nest)
    return nest


def _unpacked(seen: Any, words: Any, dtype: str) -> Any:
    shape = [int(extent) for extent in words.shape]

    def body(axes: list[Any]) -> Any:
        flat: Any = tirx.const(0, _WORD)
        for extent, axis in zip(shape, axes, strict=True):
            flat = flat * extent + axis
        if dtype == "int64":
            value = tirx.BufferLoad(seen, [flat * 2])
        else:
            value = (tirx.BufferLoad(seen, [flat // 4]) >> (flat % 4 * 8)) & 255
            value = _signed(value) if dtype == "int8" else value
        return tirx.BufferStore(words, value, axes)

    if not shape:
        return _nest(f"{words.name}_in", [1], lambda _: body([]))
    return _nest(f"{words.name}_in", shape, body)


def _packed(words: Any, seen: Any, dtype: str) -> Any:
    shape = [int(extent) for extent in words.shape]

    def value(flat: Any) -> Any:
        indices: list[Any] = []
        for extent in reversed(shape[1:]):
            indices.append(flat % extent)
            flat = flat // extent
        return tirx.BufferLoad(words, [flat, *reversed(indices)] if shape else [])

    def body(axes: list[Any]) -> Any:
        (axis,) = axes
        if dtype == "int64":
            low = value(axis // 2)
            word = low >> (axis % 2 * 31)
        else:
            bytes_ = [(value(axis * 4 + n) & 255) << (8 * n) for n in range(4)]
            word = bytes_[0] | bytes_[1] | bytes_[2] | bytes_[3]
        return tirx.BufferStore(seen, word, [axis])

    return _nest(f"{words.name}_out", [int(seen.shape[0])], body)


def _signed(value: Any) -> Any:
    return (value << 24) >> 24


def _with_views(made: tirx.PrimFunc, params: list[Any], own: list[Any]) -> tirx.PrimFunc:
    """Return a kernel with its first parameters, which its own ones are views of."""
    views, kept = [], []
    for param, seen in zip(params, made.params, strict=True):
        is_seen = any(param.same_as(one) for one in own)
        kept.append(param if is_seen else seen)
        if is_seen:
            views.append(tirx.DeclBuffer(seen, data=tirx.buffer_data(param)))
    root = root_of(made)
    return with_root(made, [*views, *nests_of(made)], list(root.alloc_buffers), kept)


class _Words:
    """Rewrites a kernel to words."""

    def __init__(self, words: dict[Any, Any]) -> None:
        self._words = words

    def kernel(self, kernel: tirx.PrimFunc) -> tirx.PrimFunc:
        def expr(node: Any, _mutator: Any) -> Any:
            return self._expr(node)

        def store(node: Any, _mutator: Any) -> Any:
            indices = [self._expr(index) for index in node.indices]
            value = self._expr(node.value)
            new = self._words.get(node.buffer)
            if new is None:
                return tirx.BufferStore(node.buffer, value, indices)
            return tirx.BufferStore(new, _stored(value, str(node.buffer.dtype)), indices)

        def var(node: Any, mutator: Any) -> Any:
            new = self._words.get(node)
            return mutator.default_mutate(node) if new is None else new

        return tvm_ffi.structural_mutate(
            kernel,
            [(tirx.BufferStore, store), (tirx.Var, var), *((kind, expr) for kind in _COMPARISONS)],
        )

    def _expr(self, node: Any) -> Any:
        """Return an expression in words: of int32 where it is of another integer."""
        dtype = dtype_of(node)
        is_other = dtype in _OTHER and dtype != "bool"
        if isinstance(node, prim.IntImm):
            return tirx.const(int(node.value), _WORD) if is_other else node
        if isinstance(node, prim.FloatImm):
            return node
        if isinstance(node, tirx.Var):
            return prim.Cast(_WORD, node) if is_other else node
        if isinstance(node, TensorLoad):
            return self._load(node)
        if isinstance(node, prim.Cast):
            value = self._expr(node.value)
            return _wrapped(prim.Cast(_WORD, value), dtype) if is_other else prim.Cast(dtype, value)
        if isinstance(node, prim.Select):
            parts = node.condition, node.true_value, node.false_value
            return prim.Select(*map(self._expr, parts))
        if isinstance(node, prim.Not):
            return prim.Not(self._expr(node.a))
        if (known := bitwise(node)) is not None:
            operation, a, b = known
            return _wrapped(operation(self._expr(a), self._expr(b)), dtype)
        if isinstance(node, prim.BinaryOpExpr | prim.CmpExpr | prim.LogicalExpr):
            return _wrapped(type(node)(self._expr(node.a), self._expr(node.b)), dtype)
        if isinstance(node, ir.Call):
            arguments = [self._expr(one) for one in node.args]
            return ir.Call(node.op, arguments, ret_ty=_WORD if is_other else dtype)
        raise TypeError(f"{type(node).__name__} of {dtype} is not known in words of 32 bits")

    def _load(self, node: Any) -> Any:
        buffer, indices = buffer_of(node), [self._expr(index) for index in node.indices]
        new = self._words.get(buffer)
        loaded = tirx.BufferLoad(buffer if new is None else new, indices)
        is_truth = new is not None and str(buffer.dtype) == "bool"
        return loaded != tirx.const(0, _WORD) if is_truth else loaded


def _wrapped(value: Any, dtype: str) -> Any:
    """Return a word as an integer of 8 bits would be; others as they are."""
    if dtype == "int8":
        return _signed(value)
    return value & tirx.const(255, _WORD) if dtype == "uint8" else value


def _stored(value: Any, dtype: str) -> Any:
    return prim.Cast(_WORD, value) if dtype == "bool" else value
