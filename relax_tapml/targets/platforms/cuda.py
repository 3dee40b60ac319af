"""NVIDIA GPUs."""

from __future__ import annotations

import os
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
        compiler = program(
            "nvcc",
            use="compiles kernels in parallel; NVRTC does it one by one",
            install="install the CUDA toolkit",
            is_needed=False,
        )
        is_there = tvm.runtime.device("cuda", 0).exist
        device = Requirement(
            name="CUDA device",
            use="runs kernels on this machine",
            found=os.environ.get("CUDA_VISIBLE_DEVICES", "device 0") if is_there else None,
            install="use a machine that has one: --session rpc:HOST:PORT",
            is_needed=False,
        )
        return [compiler, device]
