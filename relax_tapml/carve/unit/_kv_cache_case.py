"""A call that reads a KV cache, on a cache that is made for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import tvm
from tvm import relax, tirx
from tvm.ir import TupleType

from relax_tapml.capture.values import CallRecord, TensorValue
from relax_tapml.errors import NotCarvableError
from relax_tapml.passes.cache_call import SEQUENCE, reads_cache
from relax_tapml.passes.cache_creation import CacheCreation, cache_creations
from relax_tapml.passes.operator_call import OperatorCall

_CHECKPOINT = "attention_kv_cache"
_COPY = relax.ExternFunc("runtime.TVMTensorCopyFromTo")


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """What a recorded call found in its KV cache, and what it left there.

    Parameters
    ----------
    before, added
        Tokens that the sequence had before the forward pass, and those that are added by it.
    pages, after
        Keys and values of the layer before and after the call, each of shape
        ``(1, pages, 2, heads, page size, head size)``.
    """

    before: int
    added: int
    pages: TensorValue
    after: TensorValue

    @classmethod
    def split(cls, found: OperatorCall, record: CallRecord) -> tuple[Self | None, CallRecord]:
        """Take the state out of a record; None, and the record, for a call without one.

        Raises
        ------
        NotCarvableError
            The state was not recorded.
        """
        if not reads_cache(found) or record.outputs is None:
            return None, record
        before, added, pages, *inputs = record.inputs
        *outputs, after = record.outputs
        if isinstance(before, str):
            raise NotCarvableError(before)
        if not (isinstance(before, int) and isinstance(added, int)):
            raise NotCarvableError(f"its capture holds {before!r} and {added!r} for a KV cache")
        if isinstance(after, str):
            raise NotCarvableError(after)
        if not (isinstance(pages, TensorValue) and isinstance(after, TensorValue)):
            raise NotCarvableError("its capture holds no pages of its KV cache")
        state = cls(before=before, added=added, pages=pages, after=after)
        return state, replace(record, inputs=tuple(inputs), outputs=tuple(outputs))

    def emit_cache(
        self, builder: relax.BlockBuilder, lowered: tvm.IRModule, pages: relax.Var
    ) -> relax.Var:
        """Emit a cache in this state, in the middle of the forward pass, and return it.

        Raises
        ------
        NotCarvableError
            The module has no function that makes a cache.
        """
        maker = _maker(lowered)
        # Sequences, tokens, tokens at once, tokens in a page: no more than the call needs.
        page_size = self.pages.shape[4]
        sizes = (1, self.before + self.added, max(self.before, self.added), page_size)
        call = relax.Call(maker.gvar, _arguments(maker, sizes))
        relax.expr._update_type(call, relax.ObjectType())
        cache = builder.emit(call, "cache")
        sequence = relax.prim_value(SEQUENCE)
        _emit(builder, "kv_state_add_sequence", cache, sequence)
        if self.before:
            _begin(builder, cache, self.before)
            _emit(builder, "kv_state_end_forward", cache)
            # To import the pages, the cache needs the metadata that it returns now.
            about = _emit(
                builder, f"{_CHECKPOINT}_get_checkpoint_metadata", cache, sequence, name="about"
            )
            _emit(builder, f"{_CHECKPOINT}_prepare_import", cache, sequence, about)
            held = emit_held(builder, pages)
            for layer in range(maker.layers):
                # The cache imports pages of all its layers; the call reads those of one.
                group = relax.prim_value(layer)
                _emit(builder, f"{_CHECKPOINT}_import_page_group", cache, sequence, group, held)
            _emit(builder, f"{_CHECKPOINT}_finish_import", cache, sequence)
        _begin(builder, cache, self.added)
        return cache

    def emit_pages(
        self,
        builder: relax.BlockBuilder,
        lowered: tvm.IRModule,
        cache: relax.Var,
        layer: tirx.IntImm,
    ) -> relax.Var:
        """Emit the pages that the call has left, and the end of the forward pass."""
        shape = relax.ShapeExpr(self.after.shape)
        after = builder.emit(relax.op.builtin.alloc_tensor(shape, self.after.dtype, 0), "after")
        group = relax.prim_value(int(layer.value) - _maker(lowered).first_layer)
        sequence = relax.prim_value(SEQUENCE)
        _emit(builder, f"{_CHECKPOINT}_export_page_group", cache, sequence, group, after)
        _emit(builder, "kv_state_end_forward", cache)
        return after


def _maker(lowered: tvm.IRModule) -> CacheCreation:
    found = list(cache_creations(lowered))
    if len(found) != 1:
        names = ", ".join(maker.gvar.name_hint for maker in found) or "none"
        raise NotCarvableError(f"expected one function that makes KV caches, found {names}")
    return found[0]


def _arguments(maker: CacheCreation, sizes: tuple[int, ...]) -> list[relax.Expr]:
    """Return what to call its function with for these sizes; windows do not slide."""
    known = dict.fromkeys(maker.sizes, 0)
    known.update(zip(maker.sizes, sizes, strict=False))
    arguments = []
    for param in maker.params:
        values = list(getattr(param.ty, "values", None) or [])
        if len(values) != 1 or values[0] not in known:
            raise NotCarvableError(
                f"parameter {param.name} of {maker.gvar.name_hint}, which makes its KV cache, "
                "is no size of it"
            )
        arguments.append(relax.ShapeExpr([known[values[0]]]))
    return arguments


def emit_held(builder: relax.BlockBuilder, tensor: relax.Var) -> relax.Var:
    """Emit a copy of a tensor parameter that an object may keep.

    A parameter that comes by RPC is but a view, which functions of the runtime refuse.
    """
    room = relax.op.builtin.alloc_tensor(tensor.ty.shape, str(tensor.ty.dtype), 0)
    held = builder.emit(room, "held")
    builder.emit(relax.Call(_COPY, [tensor, held], ty_args=[TupleType([])]), "_")
    return held


def _begin(builder: relax.BlockBuilder, cache: relax.Var, tokens: int) -> None:
    sequences, lengths = relax.ShapeExpr([SEQUENCE]), relax.ShapeExpr([tokens])
    _emit(builder, "kv_state_begin_forward", cache, sequences, lengths)


def _emit(
    builder: relax.BlockBuilder, builtin: str, *args: relax.Expr, name: str = "_"
) -> relax.Var:
    ty = TupleType([]) if name == "_" else relax.ObjectType()
    callee = relax.ExternFunc(f"vm.builtin.{builtin}")
    return builder.emit(relax.Call(callee, args, ty_args=[ty]), name)
