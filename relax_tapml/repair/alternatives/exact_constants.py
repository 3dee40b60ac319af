"""Float constants with all their bits, for code generators that write seven digits or ``inff``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import s_tir, tirx

from relax_tapml._compat import SBlock, prim
from relax_tapml.repair._blocks import changed_block
from relax_tapml.repair._exact_float import exact_float, float_bits
from relax_tapml.repair._scheduled import as_scheduled, scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

# CUDA's and LLVM's code generators write all digits.
_KINDS = ("webgpu", "opencl", "metal")
_DTYPES = ("float16", "float32")
_NAME = "main"
_MOST = 3  # Both infinities, and no number.


class ExactConstants(Alternative):
    """Writes float constants as their bits, also those that lowering puts into sums."""

    name = "exact-constants"
    layer = Layer.CODE_GENERATION
    text = "with float constants as their bits"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the scheduled kernel so; None where all its constants are written as they are."""
        if kernel.target.kind.name not in _KINDS:
            return None
        return exact_constants(scheduled(kernel.failing, kernel.target))


def exact_constants(kernel: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Return a scheduled kernel whose float constants are bits; None if none needs to be.

    A constant that is infinite or no number is read from a variable: WGSL refuses those that its
    compiler can compute.
    """
    lowered = _with_starts(kernel)
    # The bits that each block reads from its variable, of the blocks that are being rewritten.
    blocks: list[_Variable] = []
    count = 0

    def constant(node: Any, _mutator: Any) -> Any:
        nonlocal count
        dtype, value = str(node.ty), node.value
        if dtype not in _DTYPES or _is_written(value, dtype):
            return node
        if math.isfinite(value):
            exact = exact_float(value)
        elif blocks:
            exact = blocks[-1].value(float_bits(value))
        else:
            return node
        count += 1
        return exact if dtype == "float32" else tirx.Cast(dtype, exact)

    def block(node: Any, mutator: Any) -> Any:
        blocks.append(_Variable())
        made = mutator.default_mutate(node)
        variable = blocks.pop()
        return variable.declared_in(made) if variable.bits else made

    made = tvm_ffi.structural_mutate(lowered, [(SBlock, block), (prim.FloatImm, constant)])
    return as_scheduled(made) if count else None


class _Variable:
    """Numbers that a block reads from memory of its own, since they are no constants of WGSL."""

    def __init__(self) -> None:
        self.bits: list[int] = []
        self._buffer = tirx.decl_buffer([_MOST], "uint32", "bits", scope="local")

    def value(self, bits: int) -> Any:
        """Return the number with some bits."""
        if bits not in self.bits:
            self.bits.append(bits)
        place = tirx.const(self.bits.index(bits), "int32")
        return tirx.reinterpret("float32", self._buffer[place])

    def declared_in(self, block: Any) -> Any:
        """Return a block that has the variable, and sets it first."""
        stores = [
            tirx.BufferStore(self._buffer, tirx.const(bits, "uint32"), [tirx.const(at, "int32")])
            for at, bits in enumerate(self.bits)
        ]
        return changed_block(
            block,
            body=tirx.SeqStmt([*stores, block.body]),
            alloc_buffers=[*block.alloc_buffers, self._buffer],
        )


def _with_starts(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel in which the starts of its sums are statements, as lowering makes them."""
    module = tvm.IRModule({_NAME: kernel})
    for one in (
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerCrossThreadReduction(),
        s_tir.transform.LowerInitBlock(),
    ):
        module = one(module)
    return module[_NAME]


def _is_written(value: float, dtype: str) -> bool:
    """Whether seven digits are enough for a constant."""
    if not math.isfinite(value):
        return False
    kind = np.dtype(dtype).type
    return bool(kind(float(f"{value:.6e}")) == kind(value))
