"""Where the sums of a reduction are while they grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml.cpu_schedule._nests import Nest

# What is added to the bits of a float32 before they are cut, besides the last bit that stays.
_HALF = 0x7FFF


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums in local memory, that are rounded as they are in the result.

    TVM computes bfloat16 as float32 and makes every buffer inside a kernel float32, so that sums
    would no longer be rounded where the result is one of the kernel's parameters. These are float32
    from the beginning, and rounded after each term.

    Parameters
    ----------
    dtype
        Of the result.
    is_rounded
        Whether the sums are float32 and are rounded to bfloat16.
    """

    dtype: str
    is_rounded: bool

    @classmethod
    def of(cls, nest: Nest, inner: Sequence[Any]) -> Sums:
        """Return the kind of sums of a reduction in a kernel with some buffers of its own."""
        store = nest.body
        dtype = str(store.value.ty.dtype)
        is_inner = any(store.buffer.same_as(buffer) for buffer in inner)
        return cls(dtype=dtype, is_rounded=dtype == "bfloat16" and not is_inner)

    def buffer(self, lanes: int, number: int) -> Any:
        """Return memory for as many sums."""
        dtype = "float32" if self.is_rounded else self.dtype
        return tirx.decl_buffer([lanes], dtype, f"sums_{number}", scope="local")

    def store(self, buffer: Any, value: Any, lane: Any) -> Any:
        """Return the statement that stores a value of the result's dtype."""
        if self.is_rounded:
            bits = tirx.reinterpret("uint32", value.astype("float32"))
            odd = (bits >> tirx.const(16, "uint32")) & tirx.const(1, "uint32")
            bits = (bits + odd + tirx.const(_HALF, "uint32")) & tirx.const(0xFFFF0000, "uint32")
            value = tirx.reinterpret("float32", bits)
        return tirx.BufferStore(buffer, value, [lane])

    def load(self, buffer: Any, lane: Any) -> Any:
        """Return a sum as a value of the result's dtype."""
        value = tirx.BufferLoad(buffer, [lane])
        return value.astype("bfloat16") if self.is_rounded else value
