"""The same kernel, compiled without options that cost accuracy."""

from __future__ import annotations

from tvm import tirx

from relax_tapml.partition.kernel_library import ACCURATE
from relax_tapml.repair.alternative import Alternative, Kernel, Layer
from relax_tapml.targets.platforms.registry import platform_of


class AccurateOptions(Alternative):
    """Compiles as for a trusted target: on CUDA without fast math."""

    name = "accurate-options"
    layer = Layer.OPTION
    text = "compiled without options that cost accuracy, such as fast math"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel with the mark; None where a trusted target has the same options."""
        platform = platform_of(kernel.target)
        has_others = platform.options_text(platform.trusted(kernel.target)) != ""
        return kernel.failing.with_attr(ACCURATE, True) if has_others else None
