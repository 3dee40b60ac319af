"""The OpenCL devices of this machine, listed without TVM."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

_LISTING_S = 60.0

EXTENSIONS = {
    "float16": "cl_khr_fp16",
    "float64": "cl_khr_fp64",
    "warp shuffles": "cl_intel_subgroups",
}
"""What not every device has, by name, and the extension of OpenCL that TVM's kernels use for it."""


@dataclass(frozen=True, kw_only=True)
class OpenCLDevice:
    """A device, as its driver describes it.

    Parameters
    ----------
    name, platform, driver
        Names of the device and of its driver, and the driver's version.
    is_cpu
        Whether it is a CPU. No work items of one run in lock step.
    max_threads
        How many work items a group may have.
    local_memory_bytes
        How much memory a group may share.
    lacks
        Names in ``EXTENSIONS`` of what kernels cannot use.
    """

    name: str
    platform: str
    driver: str
    is_cpu: bool
    max_threads: int
    local_memory_bytes: int
    lacks: tuple[str, ...]

    @property
    def text(self) -> str:
        """A description, in a line."""
        without = f", without {', '.join(self.lacks)}" if self.lacks else ""
        return f"{self.name} ({self.platform}, driver {self.driver}){without}"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a machine has.

    Parameters
    ----------
    devices
        In the order of TVM's device numbers: GPUs first, CPUs last.
    error
        Why devices could not be listed; empty otherwise. Without OpenCL there are none, which is
        no error.
    """

    devices: tuple[OpenCLDevice, ...]
    error: str = ""


@functools.cache
def list_devices() -> Listing:
    """Ask the drivers, in a process of its own: a driver may crash, and its threads stay there."""
    command = [sys.executable, "-P", "-m", "relax_tapml.targets.opencl._list_devices"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LISTING_S)
    except subprocess.TimeoutExpired:
        return Listing(devices=(), error=f"a driver did not answer in {_LISTING_S:g} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Listing(devices=(), error=f"a driver failed with code {done.returncode}: {last}")
    return Listing(devices=tuple(_device(**item) for item in json.loads(done.stdout)))


def _device(*, extensions: list[str], **fields: Any) -> OpenCLDevice:
    lacks = tuple(name for name, extension in EXTENSIONS.items() if extension not in extensions)
    return OpenCLDevice(**fields, lacks=lacks)
