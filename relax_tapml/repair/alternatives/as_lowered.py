"""The kernel as the device's pipeline got it."""

from __future__ import annotations

from tvm import tirx

from relax_tapml.passes.submodule import is_same
from relax_tapml.repair.alternative import Alternative, Kernel, Layer


class AsLowered(Alternative):
    """Leaves out what the device's pipeline did to the kernel."""

    name = "as-lowered"
    layer = Layer.PIPELINE
    text = "as the device pipeline got it"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel before the pipeline; None if that changed nothing."""
        return None if is_same(kernel.failing, kernel.lowered) else kernel.lowered
