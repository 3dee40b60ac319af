"""Fill the memory that a kernel allocates for its intermediate results, on a CPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, te, tirx

from relax_tapml._compat import SBlock
from relax_tapml.kernel_flow.interval import bounds
from relax_tapml.kernel_flow.kernel_call import kernel_call_of

PAGE_WORDS = 1024
"""32-bit words of the pattern that memory is filled with; TVM allocates whole pages of them."""

_PAGE_BYTES = 4 * PAGE_WORDS
# What is smaller is on the stack.
_LEAST_BYTES = 1024
# Buffers of a size that other programs of this process may have left.
_SPARE = 8
_SPARE_PAGES = 256


def workspace_pages(module: tvm.IRModule, name: str) -> list[int]:
    """Return the pages of each buffer that the kernel of a case function allocates.

    Empty for a function that does not call one PrimFunc; without buffers whose size is not known
    before the call.

    Parameters
    ----------
    module
        As prepared for a side, before schedules. A buffer that a schedule makes of one row of it is
        smaller, so in the thread that calls the kernel it lies in what was filled; other threads
        have memory of their own. What a schedule adds itself, it writes.
    name
        Of a case function.
    """
    call = kernel_call_of(module, name)
    if call is None or call.is_runtime_callback:
        return []
    shapes = _shapes(module[name], call.inputs, call.results)
    known = call.fixed(shapes)
    pages = []
    for buffer in _buffers(call.kernel):
        extents = [bounds(extent, known) for extent in buffer.shape]
        if any(extent is None or not extent.is_point for extent in extents):
            continue
        dtype = tvm_ffi.dtype(buffer.dtype)
        bits = math.prod(e.low for e in extents if e) * int(dtype.bits) * int(dtype.lanes)
        if bits // 8 > _LEAST_BYTES:
            pages.append(-(-bits // (8 * _PAGE_BYTES)))
    return pages


def with_all(pages: Sequence[int], others: Sequence[Sequence[int]]) -> list[int]:
    """Return buffers to fill so that a kernel gets no memory of its sizes that was not filled.

    TVM keeps what a kernel frees, and gives it to the next one that needs as much. So there must
    be one buffer more of each size than any kernel of the session had; and some more of small
    ones, since in this process other programs have run, too.

    Parameters
    ----------
    pages
        Of the kernel.
    others
        Of all kernels of the session.
    """
    most: Counter[int] = Counter()
    for other in others:
        most |= Counter(other)
    return [
        size
        for size in sorted(set(pages))
        for _ in range(max(most[size] + 1, min(_SPARE, _SPARE_PAGES // size)))
    ]


def filler(pages: Sequence[int]) -> tirx.PrimFunc:
    """Return a PrimFunc that allocates buffers together, fills them and gives them back.

    It takes ``PAGE_WORDS`` words, uint32, and an output of one word, which is of no use. To LLVM
    the number of words is not known, nor are the lengths of the loops that follow from it: it would
    unroll those of some lengths to thousands of stores, and take ten seconds for it.
    """
    words = tirx.Var("words", "int64")
    pattern = te.placeholder((words,), "uint32", "pattern")
    buffers = [
        te.compute(
            (size * words // PAGE_WORDS, words),
            lambda _page, word: pattern[word],
            f"buffer{number}",
        )
        for number, size in enumerate(pages)
    ]
    used = te.compute((1,), lambda one: sum((b[one, 0] for b in buffers[1:]), buffers[0][one, 0]))
    return te.create_prim_func([pattern, used]).without_attr("global_symbol")


def _shapes(
    function: relax.Function, inputs: Mapping[int, int], results: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """Return the shapes of a kernel's parameters, by number, where they are numbers."""
    types = {number: function.params[index].ty for number, index in inputs.items()}
    returned = function.ret_ty.fields
    types.update(zip(results, returned, strict=False))
    return {
        number: tuple(int(extent) for extent in ty.shape.values)
        for number, ty in types.items()
        if isinstance(ty, relax.TensorType)
        and isinstance(ty.shape, relax.ShapeExpr)
        and all(isinstance(extent, tirx.IntImm) for extent in ty.shape.values)
    }


def _buffers(kernel: tirx.PrimFunc) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(
        kernel,
        [
            (SBlock, lambda block: found.extend(block.alloc_buffers)),
            (tirx.AllocBuffer, lambda statement: found.append(statement.buffer)),
        ],
    )
    return [buffer for buffer in found if buffer.scope() in ("", "global")]
