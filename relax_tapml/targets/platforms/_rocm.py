"""AMD GPUs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from relax_tapml.targets.platforms._gpu import UntriedGPU
from relax_tapml.targets.toolchain.requirement import Requirement
from relax_tapml.targets.toolchain.rocm_compiler import is_detected, requirements, rocm_compiler


class ROCm(UntriedGPU):
    """Kernels linked with AMD's device libraries."""

    name = "rocm"
    summary = "an AMD GPU, over RPC to a TVM runtime that has ROCm"

    def target_json(self, text: str) -> str | None:
        """Return the JSON of a target by this platform's name; None for other names.

        Without ROCm on this machine TVM cannot query the GPU, and prints its assumption.
        """
        if text != self.name or is_detected():
            return None
        return json.dumps({"kind": self.name, "mcpu": "gfx900"})

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; yields facts that become part of a kernel's cache key."""
        del target
        return rocm_compiler()

    def requirements(self) -> list[Requirement]:
        """Return what it needs on this machine beside Python packages, found or missing."""
        return requirements()
