"""The loops as they are written, on CPUs."""

from __future__ import annotations

from tvm import tirx

from relax_tapml.repair._scheduled import as_scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer


class Unscheduled(Alternative):
    """No schedule: one core, no vectors but those of the compiler."""

    name = "unscheduled"
    layer = Layer.SCHEDULE
    text = "without a schedule"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel without a schedule; None on GPUs, which need one."""
        return None if "gpu" in kernel.target.keys else as_scheduled(kernel.lowered)
