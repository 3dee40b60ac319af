"""How a module makes its paged KV caches: with which sizes, kinds of layers and kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op

from .outline_runtime_callbacks import inline_runtime_callbacks
from .value_leaves import bindings_in

CREATE = "vm.builtin.paged_attention_kv_cache_create"
"""Creates a cache; its first argument is the sizes."""

_CALL_PURE_PACKED = Op.get("relax.call_pure_packed")
_INLINE_ROPE = 2


class AttentionKind(IntEnum):
    """How a layer attends, by the runtime's numbers."""

    FULL = 0
    LATENT = 1
    LINEAR = 2
    SLIDING = 3


class CacheKernel(IntEnum):
    """A kernel that a cache is made with, by the number of the argument that it is in."""

    APPEND = 13
    APPEND_LATENT = 14
    PREFILL_RAGGED = 15
    PREFILL = 16
    DECODE = 17
    PREFILL_WINDOW = 18
    DECODE_WINDOW = 19
    TREE_PAGED = 20
    TREE_RAGGED = 21
    PREFILL_LATENT = 22
    MERGE = 23
    ROTATE = 24
    COPY_PAGE = 25
    DEBUG = 26
    COMPACT = 27


WHEN_CALLED: Mapping[CacheKernel, str] = {
    CacheKernel.APPEND: "to append keys and values to it",
    CacheKernel.APPEND_LATENT: "in layers with latent attention (MLA) only",
    CacheKernel.PREFILL_RAGGED: "where tokens attend to one another in one forward pass",
    CacheKernel.PREFILL: "where several tokens of a sequence attend to its pages",
    CacheKernel.DECODE: "where one token of each sequence attends to pages",
    CacheKernel.PREFILL_WINDOW: "where several tokens of a sequence with a sliding window do",
    CacheKernel.DECODE_WINDOW: "where one token of each sequence with a sliding window does",
    CacheKernel.TREE_PAGED: "where a tree of tokens grows on one that is in the cache",
    CacheKernel.TREE_RAGGED: "where a tree of tokens is verified",
    CacheKernel.PREFILL_LATENT: "in layers with latent attention (MLA) only",
    CacheKernel.MERGE: "to merge attention to several parts of a sequence",
    CacheKernel.ROTATE: "to rotate queries and keys",
    CacheKernel.COPY_PAGE: "where a sequence is forked in the middle of a page",
    CacheKernel.DEBUG: "only to show its content to somebody who debugs",
    CacheKernel.COMPACT: "where a path of a token tree is kept",
}
"""When a cache calls a kernel, to follow ``the KV cache calls it``."""


@dataclass(frozen=True, kw_only=True)
class CacheCreation:
    """A call that makes KV caches.

    Parameters
    ----------
    gvar, params
        The function that has it, and its parameters.
    sizes
        As the function computes them: sequences, tokens, tokens at once, tokens in a page, whether
        windows slide, and how far in layers of the kind ``SLIDING``.
    first_layer, layers
        The number of the first layer, and how many there are.
    kinds
        Of the layers.
    is_rope_inline
        Whether attention kernels rotate queries and keys.
    kernels
        The kernels that it passes to the runtime.
    """

    gvar: GlobalVar
    params: tuple[relax.Var, ...]
    sizes: tuple[tirx.Expr, ...]
    first_layer: int
    layers: int
    kinds: tuple[int, ...]
    is_rope_inline: bool
    kernels: Mapping[CacheKernel, tuple[GlobalVar, ...]]

    def page_size(self, mod: tvm.IRModule) -> int | None:
        """Return the tokens in a page for which its kernels are built; None for any number."""
        for gvar in self.kernels.get(CacheKernel.APPEND, ()):
            extent = pages_shape(mod[gvar])[3:4]
            if extent and isinstance(extent[0], tirx.IntImm):
                return int(extent[0].value)
        return None


def pages_shape(kernel: tirx.PrimFunc) -> tuple[tirx.Expr, ...]:
    """Return the shape of the pages that a kernel takes; empty if it takes none.

    It is ``(pages, 2, heads, page size, head size)``.
    """
    found = pages_type(kernel)
    return () if found is None else tuple(found.shape)


def pages_type(kernel: tirx.PrimFunc) -> tvm.ir.Type | None:
    """Return the type of the pages that a kernel takes, with their shape and dtype, if any."""
    types = (param.ty for param in kernel.params)
    return next((ty for ty in types if len(getattr(ty, "shape", ())) == 5), None)


def cache_creations(mod: tvm.IRModule) -> Iterator[CacheCreation]:
    """Yield each call of a module that makes KV caches from plain shapes, also a lowered one's."""
    for gvar, function in mod.functions.items():
        if not isinstance(function, relax.Function):
            continue
        for call in creating_calls(function):
            if all(isinstance(arg, relax.ShapeExpr) for arg in call.args[1:3]):
                yield _creation(mod, gvar, function)
                break


def creating_calls(function: relax.Function) -> Iterator[relax.Call]:
    """Yield the calls of a function that make KV caches."""
    for binding in bindings_in(function.body):
        if isinstance(binding.value, relax.Call) and is_creating_call(binding.value):
            yield binding.value


def is_creating_call(call: relax.Call) -> bool:
    """Return whether a call makes a KV cache."""
    is_packed = call.op == _CALL_PURE_PACKED
    return bool(is_packed and getattr(call.args[0], "global_symbol", None) == CREATE)


def _creation(mod: tvm.IRModule, gvar: GlobalVar, function: relax.Function) -> CacheCreation:
    function = inline_runtime_callbacks(function, mod)
    values = {binding.var: binding.value for binding in bindings_in(function.body)}
    call = next(creating_calls(function))
    bounds = [int(bound) for bound in call.args[2].values]
    kernels = {}
    for role in CacheKernel:
        if role + 1 < len(call.args):
            kernels[role] = tuple(_kernels(call.args[role + 1], values))
    kinds = call.args[7].values if isinstance(call.args[7], relax.ShapeExpr) else ()
    return CacheCreation(
        gvar=gvar,
        params=tuple(function.params),
        sizes=tuple(call.args[1].values),
        first_layer=bounds[0],
        layers=bounds[1] - bounds[0],
        kinds=tuple(int(kind) for kind in kinds),
        is_rope_inline=getattr(call.args[9], "value", None) == _INLINE_ROPE,
        kernels=kernels,
    )


def _kernels(arg: relax.Expr, values: Mapping[relax.Var, relax.Expr]) -> Iterator[GlobalVar]:
    while isinstance(arg, relax.Var) and arg in values:
        arg = values[arg]
    if isinstance(arg, relax.Tuple):
        for field in arg.fields:
            yield from _kernels(field, values)
    elif isinstance(arg, GlobalVar):
        yield arg
