"""Tiles in registers only, for products that have them in shared memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tvm import tirx
from tvm.s_tir import dlight

from relax_tapml.repair._scheduled import scheduled, scheduled_by, shares_memory
from relax_tapml.repair.alternative import Alternative, Kernel, Layer


class _MatmulByRegisters(dlight.gpu.Matmul):  # type: ignore[misc]
    def get_configs(self, target: Any) -> Any:
        return replace(super().get_configs(target), use_shared=False, vector_size=1)


class NoSharedMemory(Alternative):
    """Products by tiles in registers; all else with one thread for each value."""

    name = "no-shared-memory"
    layer = Layer.SCHEDULE
    text = "without shared memory"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None on CPUs, and where its threads share nothing."""
        if not kernel.is_for_gpu:
            return None
        if not shares_memory(scheduled(kernel.failing, kernel.target)):
            return None
        rules = (_MatmulByRegisters(), dlight.gpu.Fallback())
        return scheduled_by(kernel.lowered, kernel.target, rules)
