"""Each of dlight's rules for GPUs."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir import dlight

from relax_tapml.repair._scheduled import scheduled_by
from relax_tapml.repair.alternative import Alternative, Kernel, Layer


class DlightRule(Alternative):
    """One rule alone, in place of the first one that applies."""

    layer = Layer.SCHEDULE

    def __init__(self, rule: Any) -> None:
        self._rule = rule
        kind = type(rule).__name__
        self.name = f"dlight-{kind.lower()}"
        self.text = f"with dlight's {kind} schedule"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel by that rule; None where it does not apply, and on CPUs."""
        if "gpu" not in kernel.target.keys:
            return None
        return scheduled_by(kernel.lowered, kernel.target, [self._rule])


DLIGHT_RULES = tuple(
    DlightRule(rule)
    for rule in (
        dlight.gpu.Matmul(),
        dlight.gpu.GEMV(),
        dlight.gpu.LowBatchGEMV(4),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Transpose(),
        dlight.gpu.Fallback(),
    )
)
