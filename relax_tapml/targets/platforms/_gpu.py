"""What GPUs of this machine have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm

from relax_tapml.targets.platforms.platform import Platform
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.session.rpc_session import Server
from relax_tapml.targets.toolchain.default_schedule import schedule
from relax_tapml.targets.toolchain.gpu_limits import check_limits
from relax_tapml.targets.toolchain.source_kernel import compile_source, source_of
from relax_tapml.targets.toolchain.trusted_target import trusted


class GPU(Platform):
    """Kernels of the target's kind of that name, launched by a process here or over RPC."""

    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's."""
        return bool(target.kind.name == self.name)

    def trusted(self, target: Any) -> Any:
        """Return the target for kernels without fast math and with the guards TVM drops."""
        return trusted(target)

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc to a file that the device loads."""
        source = source_of(module)
        if source is not None:
            compile_source(source, module, target, path)
            return
        scheduled = schedule(module, target)
        check_limits(scheduled, target)
        super().compile(scheduled, target, path)

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        try:
            return bool(tvm.runtime.device(self.name, 0).exist)
        except RuntimeError:  # This build of TVM's runtime does not support such devices.
            return False

    def start(self) -> Server:
        """Start a server on this machine. Raises ``DeviceUnavailable``."""
        return DeviceProcess(has_torch=True)


class UntriedGPU(GPU):
    """A GPU whose kernels are compiled and checked in tests, but were never run on hardware."""

    tried_on = "no hardware: kernels are compiled and checked against the target's limits only"
