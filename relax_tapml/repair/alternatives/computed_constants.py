"""Constants that generators of source cannot write, computed by the kernel.

TVM writes infinity and NaN as ``inff`` and ``nanf``, which WGSL lacks, and other constants for
WebGPU with seven digits, where float32 needs nine.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import SBlock, TensorLoad, buffer_of, prim
from relax_tapml.repair._blocks import accumulates, dtype_of, sums_of
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

# Beyond the end of exp for float32 and whatever has its range.
_OVERFLOWS = 200.0
# Above the smallest float32 that seven digits can write, and below what anybody fills masks with
# that is not the smallest one itself.
_FLOOR = -3.4e38


class ComputedInfinities(Alternative):
    """Infinity as ``exp(200 + n)`` and NaN as ``sqrt(-1 - n)``, of the number ``n`` of a loop.

    So no compiler knows the value, and none can refuse it as a constant.
    """

    name = "computed-infinities"
    layer = Layer.CODE_GENERATION
    text = "with infinity and NaN computed"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None on CPUs, and if no block with an axis has such a constant."""
        if not kernel.is_for_gpu:
            return None
        axes: list[Any] = []

        def block(node: Any, mutator: Any) -> Any:
            axes.append([a.var for a in node.iter_vars if a.iter_type == tirx.IterVar.DataPar])
            made = mutator.default_mutate(node)
            axes.pop()
            return made

        def constant(node: Any, mutator: Any) -> Any:
            value = float(node.value)
            if not axes or not axes[-1] or math.isfinite(value):
                return mutator.default_mutate(node)
            dtype = dtype_of(node)
            number = prim.Cast("float32", axes[-1][0])
            if math.isnan(value):
                made = tirx.sqrt(tirx.const(-1.0, "float32") - number)
            else:
                made = tirx.exp(number + tirx.const(_OVERFLOWS, "float32"))
                made = made if value > 0 else tirx.const(0.0, "float32") - made
            return made if dtype == "float32" else prim.Cast(dtype, made)

        made = tvm_ffi.structural_mutate(
            kernel.failing, [(SBlock, block), (prim.FloatImm, constant)]
        )
        return None if made.same_as(kernel.failing) else made


class ExactConstants(Alternative):
    """Constants of float32 by their bits, where seven digits are another number.

    Those that a reduction begins with stay: TVM knows its operation by them.
    """

    name = "exact-constants"
    layer = Layer.CODE_GENERATION
    text = "with constants by their bits"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None on CPUs, and if it has no such constant."""
        if not kernel.is_for_gpu:
            return None

        def block(node: Any, mutator: Any) -> Any:
            begun.append(node.init)
            return mutator.default_mutate(node)

        def store(node: Any, mutator: Any) -> Any:
            is_begin = any(one is not None and one.same_as(node) for one in begun)
            return node if is_begin else mutator.default_mutate(node)

        def constant(node: Any, mutator: Any) -> Any:
            value = float(node.value)
            if dtype_of(node) != "float32" or not math.isfinite(value) or _is_written(value):
                return mutator.default_mutate(node)
            (bits,) = struct.unpack("<I", struct.pack("<f", value))
            return tirx.reinterpret("float32", tirx.const(bits, "uint32"))

        begun: list[Any] = []
        made = tvm_ffi.structural_mutate(
            kernel.failing,
            [(SBlock, block), (tirx.BufferStore, store), (prim.FloatImm, constant)],
        )
        return None if made.same_as(kernel.failing) else made


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


def _is_written(value: float) -> bool:
    """Whether seven digits are enough to write a float32."""
    (written,) = struct.unpack("<f", struct.pack("<f", float(f"{value:.6e}")))
    return bool(written == value)
