"""NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from relax_tapml.targets.cuda_compiler import cuda_compiler, found_compiler
from relax_tapml.targets.platforms.gpu import GPU
from relax_tapml.targets.requirement import Requirement, program


class Cuda(GPU):
    """CUDA kernels, compiled by ``nvcc`` where there is one and by NVRTC otherwise."""

    name = "cuda"
    summary = "an NVIDIA GPU"
    tried_on = "H100, H200"

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; what is yielded is part of a kernel's name in a cache."""
        del target
        return cuda_compiler()

    def requirements(self) -> list[Requirement]:
        """Return what it needs here beside Python packages, found or missing."""
        return [
            program(
                "nvcc",
                use="compiles kernels in parallel; NVRTC does it one by one",
                install="install the CUDA toolkit",
                is_needed=False,
            ),
            # Without any, no kernel builds, which is not the fault of the kernels.
            Requirement(
                name="a CUDA compiler",
                use="compiles kernels",
                found=found_compiler(),
                install="install the CUDA toolkit, or pip install cuda-bindings",
            ),
        ]
