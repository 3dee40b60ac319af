"""Tensors of bytes read and written as words, for code generators that have no 8-bit types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from relax_tapml._compat import SBlock, SBlockRealize, TensorLoad, buffer_of, prim
from relax_tapml.repair._blocks import changed_block, root_of
from relax_tapml.repair._byte_numbers import ByteNumber, UnsignedByte
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

_KINDS = {"int8": ByteNumber, "uint8": UnsignedByte}
_DTYPES = ("bool", *_KINDS)
_INDEX = "int64"


class PackedBytes(Alternative):
    """Reads and writes tensors of bool, int8 and uint8 by whole words."""

    name = "packed-bytes"
    layer = Layer.CODE_GENERATION
    text = "with tensors of bytes as words of four"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None where the target has such types, or the kernel none."""
        return None if kernel.target.kind.name != "webgpu" else packed_bytes(kernel.plain)


@dataclass(frozen=True)
class _Packed:
    """A parameter of bytes, and the view of it as words."""

    param: Any
    words: Any

    @property
    def size(self) -> Any:
        return _product(self.param.shape)

    def byte(self, place: Any) -> Any:
        """Return the byte at an int32, as an int32 without a sign."""
        four, eight = (tirx.const(value, "int32") for value in (4, 8))
        word = self.words[tirx.floordiv(place, four)]
        shift = tirx.Cast("uint32", tirx.floormod(place, four) * eight)
        return tirx.Cast("int32", (word >> shift) & tirx.const(0xFF, "uint32"))

    def value(self, indices: Sequence[Any]) -> Any:
        """Return an element as an int32."""
        found = self.byte(_place(indices, self.param.shape))
        return ByteNumber.wrapped(found).value if str(self.param.dtype) == "int8" else found


def packed_bytes(kernel: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Return a kernel that reads and writes its tensors of bytes as words; None if it has none.

    What it computes in between is in tensors of int32. Blocks at the end put the bytes of an output
    together, one thread for each word. What is behind the last byte in its word becomes 0: memory
    of WebGPU consists of whole words, so no other tensor is there.

    Raises
    ------
    NotPlainError
        It has no root block.
    ValueError
        An operation has no form in int32.
    """
    params, own = parameters_of(kernel, _DTYPES), allocated_of(kernel, _DTYPES)
    if not params and not own:
        return None
    root_of(kernel)
    packed: dict[Any, _Packed] = {}
    views = []
    for param in params:
        words = tirx.floordiv(_product(param.shape) + _count(3), _count(4))
        view, declaration = view_of(param, [words], "uint32")
        packed[param] = _Packed(param, view)
        views.append(declaration)
    written = [param for param in params if param in written_by(kernel.body)]
    wide = {
        buffer: tirx.decl_buffer(list(buffer.shape), "int32", f"{buffer.name}_wide", scope=scope)
        for buffer, scope in [
            *((buffer, buffer.scope()) for buffer in own),
            *((param, "global") for param in written),
        ]
    }

    def load(buffer: Any, indices: list[Any]) -> Any | None:
        if buffer in wide:
            value = wide[buffer][tuple(indices)]
        elif buffer in packed:
            value = packed[buffer].value(indices)
        else:
            return None
        return _KINDS.get(str(buffer.dtype), ByteNumber)(value)

    retyped = Retyped(_KINDS, load)

    def loaded(node: Any, mutator: Any) -> Any:
        found = load(buffer_of(node), retyped.indices(node.indices, mutator))
        if found is not None and str(node.ty) == "bool":
            return found.cast("bool")
        return retyped.loaded(node, mutator)

    def stored(node: Any, mutator: Any) -> Any:
        found = wide.get(node.buffer)
        indices = retyped.indices(node.indices, mutator)
        if found is None:
            return tirx.BufferStore(node.buffer, mutator.mutate(node.value), indices)
        if str(node.buffer.dtype) == "bool":
            value = tirx.Cast("int32", mutator.mutate(node.value))
        else:
            value = retyped.value(node.value, mutator).value
        return tirx.BufferStore(found, value, indices)

    def block(node: Any, mutator: Any) -> Any:
        node = mutator.default_mutate(changed_block(node, reads=[], writes=[]))
        buffers = [wide.get(one, one) for one in node.alloc_buffers]
        if node.name_hint == kernel.body.block.name_hint and not len(node.iter_vars):
            buffers += [wide[param] for param in written]
        return changed_block(node, alloc_buffers=buffers)

    rules = [(TensorLoad, loaded), *retyped.rules()]
    body = tvm_ffi.structural_mutate(
        kernel.body, [(SBlock, block), (tirx.BufferStore, stored), *rules]
    )
    first = [
        _unpacked(packed[param], wide[param])
        for param in written
        if param in read_by(kernel.body) or not _is_filled(kernel.body, param)
    ]
    last = [_put_together(packed[param], wide[param]) for param in written]
    return with_body(kernel, body, [*views, *first], last)


def _unpacked(packed: _Packed, wide: Any) -> Any:
    """Return a nest that copies the elements of a parameter."""
    axes = [tirx.Var(f"v{at}", _INDEX) for at, _ in enumerate(wide.shape)]
    store = tirx.BufferStore(wide, packed.value(axes), axes)
    return _nest(f"{packed.param.name}_unpacked", axes, wide.shape, store)


def _put_together(packed: _Packed, wide: Any) -> Any:
    """Return a nest that writes the words of a parameter, each with the bytes of four elements."""
    word, (count,) = tirx.Var("word", _INDEX), packed.words.shape
    size = packed.size
    is_whole = isinstance(size, prim.IntImm) and size.value % 4 == 0
    whole = tirx.const(0, "uint32")
    for at in range(4):
        place = word * _count(4) + _count(at)
        byte = tirx.reinterpret("uint32", wide[tuple(_indices(place, packed.param.shape))])
        if at and not is_whole:
            byte = tirx.if_then_else(place < size, byte, tirx.const(0, "uint32"))
        byte = byte & tirx.const(0xFF, "uint32")
        whole = byte if at == 0 else whole | (byte << tirx.const(8 * at, "uint32"))
    store = tirx.BufferStore(packed.words, whole, [word])
    return _nest(f"{packed.param.name}_packed", [word], [count], store)


def _nest(name: str, axes: list[Any], shape: Sequence[Any], body: Any) -> Any:
    """Return loops over a shape around a block with a body that uses the axes."""
    loops = [tirx.Var(f"i{at}", _INDEX) for at, _ in enumerate(axes)]
    domains = [
        tirx.IterVar(ir.Range(_count(0), _wide(extent)), axis, tirx.IterVar.DataPar)
        for axis, extent in zip(axes, shape, strict=True)
    ]
    block = SBlock(domains, [], [], name, body)
    nest = SBlockRealize(list(loops), True, block)
    for loop, extent in reversed(list(zip(loops, shape, strict=True))):
        nest = tirx.For(loop, _count(0), _wide(extent), tirx.ForKind.SERIAL, nest)
    return nest


def _is_filled(body: Any, param: Any) -> bool:
    """Whether one block writes each element of a parameter once."""
    realizes: list[Any] = []
    tvm_ffi.structural_walk(body, (SBlockRealize, realizes.append))
    writers = [
        one for one in realizes if len(one.block.iter_vars) and param in written_by(one.block)
    ]
    if len(writers) != 1 or not isinstance(writers[0].block.body, tirx.BufferStore):
        return False
    axes = {axis.var: axis.dom.extent for axis in writers[0].block.iter_vars}
    indices = list(writers[0].block.body.indices)
    whole = [
        index in axes and bool(tvm_ffi.structural_equal(_wide(axes[index]), _wide(extent), True))
        for index, extent in zip(indices, param.shape, strict=True)
    ]
    is_certain = isinstance(writers[0].predicate, prim.IntImm) and bool(writers[0].predicate.value)
    return all(whole) and is_certain and len(set(map(hash, indices))) == len(indices)


def _place(indices: Sequence[Any], shape: Sequence[Any]) -> Any:
    """Return where an element is, counted in elements.

    In int32, since TVM has no shifts of int64 for WebGPU where an index is a value.
    """
    place = tirx.const(0, "int32")
    for index, extent in zip(indices, shape, strict=True):
        place = place * _narrow(extent) + _narrow(index)
    return place


def _indices(place: Any, shape: Sequence[Any]) -> list[Any]:
    """Return the indices of the element at a place."""
    found: list[Any] = []
    for extent in reversed(list(shape)):
        found.insert(0, tirx.floormod(place, _wide(extent)))
        place = tirx.floordiv(place, _wide(extent))
    return found


def _product(shape: Sequence[Any]) -> Any:
    size = _count(1)
    for extent in shape:
        size = size * _wide(extent)
    return size


def _count(value: int) -> Any:
    return tirx.const(value, _INDEX)


def _narrow(expr: Any) -> Any:
    if isinstance(expr, prim.Cast) and str(expr.value.ty) == "int32":
        return expr.value
    return tirx.Cast("int32", expr)


def _wide(expr: Any) -> Any:
    if isinstance(expr, int):
        return _count(expr)
    return expr if str(expr.ty) == _INDEX else tirx.Cast(_INDEX, expr)
