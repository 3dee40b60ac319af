"""Platforms whose kernels are made and checked here, and that no one has run this package on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.targets.gpu_limits import check_limits
from relax_tapml.targets.platform import Platform
from relax_tapml.targets.requirement import Requirement
from relax_tapml.targets.rocm_compiler import is_detected, requirements, rocm_compiler
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

    def target_json(self, text: str) -> str | None:
        """Return the JSON of a target that only we know by this name; None if it is not ours.

        Without ROCm here TVM has nothing to ask for the GPU, and says on stdout what it assumes.
        """
        if text != self.name or is_detected():
            return None
        return json.dumps({"kind": self.name, "mcpu": "gfx900"})

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; what is yielded is part of a kernel's name in a cache."""
        del target
        return rocm_compiler()

    def requirements(self) -> list[Requirement]:
        """Return what it needs here beside Python packages, found or missing."""
        return requirements()
