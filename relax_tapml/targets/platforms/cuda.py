"""NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import tvm

from relax_tapml.targets.cuda_compiler import cuda_compiler
from relax_tapml.targets.platform import Platform
from relax_tapml.targets.requirement import Requirement, program


class Cuda(Platform):
    """CUDA kernels, compiled by ``nvcc`` where there is one and by NVRTC otherwise."""

    name = "cuda"
    summary = "an NVIDIA GPU"
    tried_on = "H100, H200"

    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's."""
        return bool(target.kind.name == "cuda")

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; what is yielded is part of a kernel's name in a cache."""
        return cuda_compiler(target)

    def requirements(self) -> list[Requirement]:
        """Return what it needs here beside Python packages, found or missing."""
        return [
            program(
                "nvcc",
                use="compiles kernels in parallel; NVRTC does it one by one",
                install="install the CUDA toolkit",
                is_needed=False,
            )
        ]

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        try:
            return bool(tvm.runtime.device(self.name, 0).exist)
        except RuntimeError:  # This build of TVM's runtime knows no such devices.
            return False
