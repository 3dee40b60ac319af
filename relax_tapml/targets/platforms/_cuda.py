"""NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from relax_tapml.targets.platforms._gpu import GPU
from relax_tapml.targets.toolchain.cuda_compiler import (
    cuda_compiler,
    fast_math_option,
    found_compiler,
)
from relax_tapml.targets.toolchain.low_precision_math import LowPrecisionMath
from relax_tapml.targets.toolchain.requirement import Requirement, program
from relax_tapml.targets.toolchain.trusted_target import is_trusted


class Cuda(GPU):
    """CUDA kernels, compiled by ``nvcc`` where there is one and by NVRTC otherwise."""

    name = "cuda"
    summary = "an NVIDIA GPU"
    tried_on = "H100, H200"

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; yields facts that become part of a kernel's cache key."""
        return cuda_compiler(is_accurate=is_trusted(target))

    def compiles_in_fork(self, target: Any) -> bool:
        """Whether ``compile`` may be called in a fork: no, TVM queries the driver meanwhile."""
        del target
        return False

    def options_text(self, target: Any) -> str:
        """What compile options of a target differ from TVM's, for people; empty if none does."""
        return "compiled without fast math" if is_trusted(target) else ""

    def low_precision_math(self, target: Any) -> LowPrecisionMath | None:
        """Return which functions are computed less accurately under the options in use, and why."""
        if is_trusted(target):
            return None
        option = fast_math_option()
        if option is None:
            return None
        return LowPrecisionMath(
            names=frozenset({"tanh"}),
            reason=f"{option}, TVM's default, makes tanhf an approximation within 2**-11; "
            "TVM_CUDA_COMPILE_MODE=nvcc TVM_CUDA_NVCC_NO_FAST_MATH=1 turns it off",
        )

    def requirements(self) -> list[Requirement]:
        """Return what it needs on this machine beside Python packages, found or missing."""
        return [
            program(
                "nvcc",
                use="compiles kernels in parallel; NVRTC does it one by one",
                install="install the CUDA toolkit",
                is_needed=False,
            ),
            # Without any no kernel builds, and no kernel is to blame.
            Requirement(
                name="a CUDA compiler",
                use="compiles kernels",
                found=found_compiler(),
                install="install the CUDA toolkit, or pip install cuda-bindings",
            ),
        ]
