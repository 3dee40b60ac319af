"""Apple GPUs."""

from __future__ import annotations

from relax_tapml.targets.platforms._gpu import UntriedGPU


class Metal(UntriedGPU):
    """Apple GPUs; kernels are linked for the machine that builds them, which must be a Mac."""

    name = "metal"
    summary = "an Apple GPU; build on the Mac itself"
