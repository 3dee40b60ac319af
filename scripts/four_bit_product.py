"""A product with weights of four bits, as quantised LLMs have it; benchmarks and tests share it."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

_BITS = 4
_IN_A_WORD = 32 // _BITS
_MIDDLE = 7


def four_bit_product(builder: Any, x: Any, packed: Any, scale: Any) -> Any:
    """Return ``x`` times the transpose of a weight, which the kernel unpacks.

    Parameters
    ----------
    builder
        A ``relax.BlockBuilder``.
    x
        ``(rows, terms)``, of a float dtype.
    packed
        ``(columns, terms / 8)`` uint32, eight values in a word.
    scale
        ``(columns, groups)`` of the dtype of ``x``; terms that follow each other share one.
    """

    def kernel(x: Any, packed: Any, scale: Any) -> Any:
        count, terms, dtype = packed.shape[0], packed.shape[1] * _IN_A_WORD, x.dtype
        group = terms // scale.shape[1]

        def weight(i: Any, j: Any) -> Any:
            shifted = packed[i, j // _IN_A_WORD] >> (j % _IN_A_WORD * _BITS).astype("uint32")
            nibble = (shifted & tirx.const(15, "uint32")).astype(dtype)
            return (nibble - tirx.const(_MIDDLE, dtype)) * scale[i, j // group]

        weights = te.compute((count, terms), weight, "weights")
        k = te.reduce_axis((0, terms), "k")
        return te.compute(
            (x.shape[0], count), lambda i, j: te.sum(x[i, k] * weights[j, k], axis=k), "product"
        )

    return builder.call_te(kernel, x, packed, scale)
