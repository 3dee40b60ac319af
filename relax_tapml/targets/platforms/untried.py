"""Platforms whose kernels are made and checked here, and that no one has run this package on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.targets.gpu_limits import check_limits
from relax_tapml.targets.platform import Platform
from relax_tapml.targets.requirement import Requirement
from relax_tapml.targets.schedule import schedule


class _UntriedGPU(Platform):
    tried_on = "no hardware: kernels are compiled and checked against the target's limits only"

    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's."""
        return bool(target.kind.name == self.name)

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc, and write it as the device loads it."""
        scheduled = schedule(module, target)
        check_limits(scheduled, target)
        super().compile(scheduled, target, path)

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        try:
            return bool(tvm.runtime.device(self.name, 0).exist)
        except RuntimeError:  # This build of TVM's runtime knows no such devices.
            return False


class Metal(_UntriedGPU):
    """Apple GPUs; kernels are linked for the machine that builds them, which must be a Mac."""

    name = "metal"
    summary = "an Apple GPU; build on the Mac itself"


class OpenCL(_UntriedGPU):
    """Whatever has an OpenCL driver."""

    name = "opencl"
    summary = "a GPU with an OpenCL driver, over RPC to a TVM runtime that has OpenCL"


class ROCm(_UntriedGPU):
    """AMD GPUs."""

    name = "rocm"
    summary = "an AMD GPU, over RPC to a TVM runtime that has ROCm"

    def requirements(self) -> list[Requirement]:
        """Return what it needs here beside Python packages, found or missing."""
        folder = os.environ.get("ROCM_PATH", "/opt/rocm")
        return [
            Requirement(
                name="ROCm",
                use="its device libraries are part of every kernel",
                found=folder if Path(folder).is_dir() else None,
                install="install ROCm, and set ROCM_PATH if it is not in /opt/rocm",
            )
        ]
