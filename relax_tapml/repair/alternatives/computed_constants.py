"""Maxima that begin with a number that generators of source cannot write."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.repair._blocks import accumulates, sums_of
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

# Above the smallest float32 that seven digits can write, and below what anybody fills masks with
# that is not the smallest one itself.
_FLOOR = -3.4e38


class MaximumWithFloor(Alternative):
    """Maxima of float32 over values of at least -3.4e38, and the same values beside them.

    A maximum begins with the smallest float32, which WebGPU's source has as a larger number; so a
    row of smallest numbers, as masks are filled with, is below its own maximum.
    """

    name = "maximum-with-floor"
    layer = Layer.CODE_GENERATION
    text = f"with no value of a maximum below {_FLOOR:g}"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None on CPUs, and if it has no maximum of a tensor in float32."""
        blocks = sums_of(kernel.failing, [prim.Max])
        maxima = [one.body.buffer for one in blocks if isinstance(one.body.value.b, TensorLoad)]
        tensors = [buffer_of(one.body.value.b) for one in blocks
                   if isinstance(one.body.value.b, TensorLoad)]  # fmt: skip

        def is_one_of(load: Any, buffers: list[Any]) -> bool:
            return any(buffer_of(load).same_as(one) for one in buffers)

        def store(node: Any) -> Any:
            loads: list[Any] = []
            tvm_ffi.structural_walk(node.value, (TensorLoad, loads.append))
            is_beside = any(is_one_of(load, maxima) for load in loads)
            if str(node.buffer.dtype) != "float32" or not (accumulates(node) or is_beside):
                return node
            floor = tirx.const(_FLOOR, "float32")
            value = tvm_ffi.structural_map(
                node.value,
                (TensorLoad, lambda load: tirx.max(load, floor)
                 if is_one_of(load, tensors) else load),
            )  # fmt: skip
            return tirx.BufferStore(node.buffer, value, node.indices)

        if not maxima or not kernel.is_for_gpu:
            return None
        made = tvm_ffi.structural_map(kernel.failing, (tirx.BufferStore, store))
        return None if made.same_as(kernel.failing) else made
