# ruff: noqa: N812 - TVMScript
"""A kernel by which a case puts tokens into a KV cache and takes them out of it."""

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar
from tvm.script import tirx as T

from relax_tapml.passes.cache_creation import (
    CacheCreation,
    CacheKernel,
    cache_creations,
    pages_type,
)
from relax_tapml.passes.operator_call import CASE_KERNEL_ATTR


def exchange_kernel(heads: int, head_size: int, dtype: str) -> tirx.PrimFunc:
    """Return a kernel that exchanges tokens in the pages of a layer with those of two tensors.

    It has the interface of the kernel by which a cache shows its content
    (``CacheKernel.DEBUG``), whose caller tells it where the tokens of a sequence are. TVM's own
    kernel can only read, and TVM has no function that writes keys and values into a cache as they
    are, unless it holds one sequence of full attention.

    Parameters
    ----------
    heads, head_size
        Of keys and values.
    dtype
        Of the cache.
    """

    @T.prim_func(s_tir=True, private=True)  # type: ignore[untyped-decorator]
    def exchange(  # type: ignore[no-untyped-def]
        var_pages: T.handle,
        var_positions: T.handle,
        var_keys: T.handle,
        var_values: T.handle,
        layer: T.int64,
    ):
        T.func_attr({"tirx.noalias": True, CASE_KERNEL_ATTR: 1})
        tokens = T.Var("tokens", "int64")
        page_size = T.Var("page_size", "int64")
        num_pages = T.int64()
        pages_offset = T.int64()
        positions_offset = T.int64()
        pages = T.match_buffer(
            var_pages, (num_pages, 2, heads, page_size, head_size), dtype, elem_offset=pages_offset
        )
        positions = T.match_buffer(var_positions, (tokens,), "int32", elem_offset=positions_offset)
        keys = T.match_buffer(var_keys, (1, tokens, heads, head_size), dtype)
        values = T.match_buffer(var_values, (1, tokens, heads, head_size), dtype)
        for n, h, d in T.grid(tokens, heads, head_size):
            with T.sblock("exchange"):
                vn, vh, vd = T.axis.remap("SSS", [n, h, d])
                # And of what it writes: schedules of GPUs refuse a block that is said to do so.
                T.reads(positions[vn])
                T.writes(
                    keys[layer, vn, vh, vd],
                    values[layer, vn, vh, vd],
                    pages[positions[vn] // page_size, 0:2, vh, positions[vn] % page_size, vd],
                )
                page: T.let = T.floordiv(positions[vn], page_size)
                slot: T.let = T.floormod(positions[vn], page_size)
                key: T.let = pages[page, 0, vh, slot, vd]
                value: T.let = pages[page, 1, vh, slot, vd]
                pages[page, 0, vh, slot, vd] = keys[layer, vn, vh, vd]
                pages[page, 1, vh, slot, vd] = values[layer, vn, vh, vd]
                keys[layer, vn, vh, vd] = key
                values[layer, vn, vh, vd] = value

    return exchange


def with_exchange_kernels(lowered: tvm.IRModule) -> tvm.IRModule:
    """Return a module with such a kernel for each function that makes KV caches.

    A module that makes none is returned as it is.
    """
    added: dict[GlobalVar, tirx.PrimFunc] = {}
    for made in cache_creations(lowered):
        for append in made.kernels.get(CacheKernel.APPEND, ()):
            pages = pages_type(lowered[append])
            extents = [] if pages is None else [pages.shape[2], pages.shape[4]]
            if pages is not None and all(isinstance(extent, tirx.IntImm) for extent in extents):
                heads, head_size = (int(extent.value) for extent in extents)
                kernel = exchange_kernel(heads, head_size, str(pages.dtype))
                name = exchange_name(made)
                gvar = GlobalVar(name)
                relax.expr._update_type(gvar, kernel.ty)
                added[gvar] = kernel.with_attr("global_symbol", name)
    if not added:
        return lowered
    out = lowered.clone()
    for gvar, kernel in added.items():
        out.update_func(gvar, kernel)
    return out


def exchange_name(made: CacheCreation) -> str:
    """Return the name of the kernel for the caches that a function makes."""
    return f"relax_tapml_exchange_{made.gvar.name_hint}"
