"""Apple GPUs."""

from __future__ import annotations

from relax_tapml.targets.platforms._gpu import UntriedGPU
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.session.rpc_session import Server


class Metal(UntriedGPU):
    """Apple GPUs; kernels are linked for the machine that builds them, which must be a Mac."""

    name = "metal"
    summary = "an Apple GPU; build on the Mac itself"
    elsewhere = "build them on a Mac"
    copy_alignment = 4  # MTLBlitCommandEncoder, on macOS

    def start(self) -> Server:
        """Start a server on this machine. Raises ``DeviceUnavailable``."""
        return DeviceProcess()
