"""All platforms."""

from __future__ import annotations

from typing import Any

from relax_tapml.errors import UsageError
from relax_tapml.targets.platforms._arm64 import Arm64
from relax_tapml.targets.platforms._cuda import Cuda
from relax_tapml.targets.platforms._local import Local
from relax_tapml.targets.platforms._metal import Metal
from relax_tapml.targets.platforms._opencl import OpenCL
from relax_tapml.targets.platforms._rocm import ROCm
from relax_tapml.targets.platforms._webgpu import WebGPU
from relax_tapml.targets.platforms.platform import Platform

# The first that owns a target is its platform; the last one owns every target.
PLATFORMS: tuple[Platform, ...] = (
    WebGPU(),
    Cuda(),
    Metal(),
    OpenCL(),
    ROCm(),
    Arm64(),
    Local(),
)


def platform_named(name: str) -> Platform:
    """Return a platform by its name. Raises ``UsageError`` if there is none."""
    found = {platform.name: platform for platform in PLATFORMS}
    if name not in found:
        raise UsageError(f"target {name}: expected one of {', '.join(found)}")
    return found[name]


def platform_of(target: Any) -> Platform:
    """Return the platform of a ``tvm.target.Target``."""
    return next(platform for platform in PLATFORMS if platform.owns(target))
