"""Sums of float32 that keep what each addition rounds away (Kahan 1965)."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import SBlock, prim
from relax_tapml.repair._blocks import changed_block, root_of, sums_of, with_regions, with_root
from relax_tapml.repair._scheduled import serially_scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer


class CompensatedSums(Alternative):
    """Adds serially, with a second buffer for what is lost.

    ``(t - sum) - y`` is 0 to a compiler that reorders additions, as those of Metal and WebGPU may;
    the sum is then the plain serial one, and no worse.
    """

    name = "compensated-sums"
    layer = Layer.DEFINITION
    text = "with compensated sums"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so, with serial sums; None if it has no sum in float32."""
        plain = kernel.plain
        sums = [s for s in sums_of(plain, [prim.Add]) if str(s.body.buffer.dtype) == "float32"]
        if not sums:
            return None
        lost: list[Any] = []

        def visit(block: Any, mutator: Any) -> Any:
            if not any(block.same_as(one) for one in sums):
                return mutator.default_mutate(block)
            buffer = block.body.buffer
            lost.append(tirx.decl_buffer(buffer.shape, "float32", f"{buffer.name}_lost"))
            return _compensated(block, lost[-1])

        made = tvm_ffi.structural_mutate(plain, [(SBlock, visit)])
        root = root_of(made)
        made = with_root(made, [root.body], [*root.alloc_buffers, *lost])
        return serially_scheduled(with_regions(made), kernel.target)


def _compensated(block: Any, lost: Any) -> Any:
    store = block.body
    indices, buffer = store.indices, store.buffer
    small = tirx.Var("small", "float32")
    total = tirx.Var("total", "float32")
    body = tirx.SeqStmt(
        [
            tirx.Bind(small, store.value.b - tirx.BufferLoad(lost, indices)),
            tirx.Bind(total, tirx.BufferLoad(buffer, indices) + small),
            tirx.BufferStore(lost, total - tirx.BufferLoad(buffer, indices) - small, indices),
            tirx.BufferStore(buffer, total, indices),
        ]
    )
    nothing = tirx.BufferStore(lost, tirx.const(0.0, "float32"), block.init.indices)
    return changed_block(block, body=body, init=tirx.SeqStmt([nothing, block.init]))
