"""Devices with an OpenCL driver."""

from __future__ import annotations

from relax_tapml.targets.platforms._gpu import UntriedGPU


class OpenCL(UntriedGPU):
    """Kernels in OpenCL C."""

    name = "opencl"
    summary = "a GPU with an OpenCL driver, over RPC to a TVM runtime that has OpenCL"
