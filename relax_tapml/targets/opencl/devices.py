"""The OpenCL devices of this machine, listed without TVM."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass

_LISTING_S = 60.0


@dataclass(frozen=True, kw_only=True)
class OpenCLDevice:
    """A device, as its driver describes it.

    Parameters
    ----------
    name, platform, driver
        Names of the device and of its driver, and the driver's version.
    max_threads
        How many work items a group may have.
    local_memory_bytes
        How much memory a group may share.
    has_float16, has_float64
        Whether kernels may compute in these types.
    """

    name: str
    platform: str
    driver: str
    max_threads: int
    local_memory_bytes: int
    has_float16: bool
    has_float64: bool

    @property
    def lacks(self) -> tuple[str, ...]:
        """Return the floating-point types that kernels must not use."""
        has = {"float16": self.has_float16, "float64": self.has_float64}
        return tuple(name for name, is_there in has.items() if not is_there)

    @property
    def text(self) -> str:
        """A description, in a line."""
        without = f", without {' and '.join(self.lacks)}" if self.lacks else ""
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
    return Listing(devices=tuple(OpenCLDevice(**item) for item in json.loads(done.stdout)))
