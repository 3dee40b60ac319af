"""Devices with an OpenCL driver: GPUs, and this machine's CPU by pocl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import DeviceUnavailable, LoweringError
from relax_tapml.system import install_command
from relax_tapml.targets.opencl.devices import EXTENSIONS, OpenCLDevice, list_devices
from relax_tapml.targets.opencl.runtime import load_opencl, opencl_runtime
from relax_tapml.targets.opencl.work_items import one_by_one
from relax_tapml.targets.platforms._gpu import GPU
from relax_tapml.targets.platforms.platform import START_S, Opener
from relax_tapml.targets.server.device_process import DeviceProcess
from relax_tapml.targets.session.attempts import open_with_retries
from relax_tapml.targets.session.inline import InlineSession
from relax_tapml.targets.session.rpc_session import Server
from relax_tapml.targets.session.session import DeviceSession
from relax_tapml.targets.toolchain.default_schedule import schedule
from relax_tapml.targets.toolchain.gpu_limits import check_limits
from relax_tapml.targets.toolchain.requirement import Requirement
from relax_tapml.targets.toolchain.source_kernel import compile_source, source_of

_POCL = install_command(debian="pocl-opencl-icd ocl-icd-libopencl1", macos="brew install pocl")
# In the keys of a target: what the device of this machine lacks. TVM looks for none of them.
_WITHOUT = {name: f"without_{name.replace(' ', '_')}" for name in EXTENSIONS}
# What the source of kernels that need it has in it.
_MARKS = {**EXTENSIONS, "warp shuffles": "intel_sub_group_"}
_THREADS = ("max_num_threads", "max_threads_per_block")
_LOCAL_MEMORY = "max_shared_memory_per_block"


class OpenCL(GPU):
    """Kernels in OpenCL C, run by the runtime of this package."""

    name = "opencl"
    summary = "a device with an OpenCL driver: a GPU, or this machine's CPU by pocl"
    tried_on = "pocl 3.1 on x86-64; no GPU"
    needs_own_runtime = True

    def here(self, target: Any) -> Any:
        """Return a target within the limits of this machine's device.

        TVM's targets for OpenCL have what every device has; these limits become the device's own,
        and stated ones are kept where the device has as much.
        """
        devices = list_devices().devices
        return target if not devices else _limited(target, devices[0])

    def portable(self, target: Any) -> Any:
        """Return the target that ``here`` made this one of, for any machine."""
        attributes = json.loads(str(target))
        defaults = tvm.target.Target(self.name).attrs
        for name in (*_THREADS, _LOCAL_MEMORY):
            attributes[name] = int(defaults[name])
        attributes["keys"] = [key for key in attributes["keys"] if key not in _WITHOUT.values()]
        plain = tvm.target.Target(attributes)
        return plain if str(self.here(plain)) == str(target) else target

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc to a file that the device loads."""
        source = source_of(module)
        if source is not None:
            load_opencl()
            compile_source(source, module, target, path)
            return
        scheduled = schedule(module, target)
        check_limits(scheduled, target)
        built = tvm.tirx.build(scheduled, target=target)
        _check_extensions(built, target)
        built.export_library(str(path))

    def sessions(self) -> Mapping[str, Opener]:
        """Return how to open a device on this machine; two find races, see ``work_items.h``."""
        return {
            "inline": lambda target, _: InlineSession(target),
            "process": lambda target, timeout_s: self._open(None, target, timeout_s),
            "in-order": lambda target, timeout_s: self._open("in-order", target, timeout_s),
            "reversed": lambda target, timeout_s: self._open("reversed", target, timeout_s),
        }

    def server_command(self, options: str) -> str:
        """Return the command that starts a server on the device's machine, for messages."""
        library = '"$(python -m relax_tapml.targets.opencl)"'
        return f"'python -m tvm.exec.rpc_server {options} --load-library {library}'"

    def requirements(self) -> list[Requirement]:
        """Return what it needs on this machine beside Python packages, found or missing."""
        listing = list_devices()
        return [
            Requirement(
                name="an OpenCL device",
                use=f"runs kernels here{f'; {listing.error}' if listing.error else ''}",
                found="; ".join(self.devices_here()) or None,
                install=_POCL,
                is_needed=False,
            ),
        ]

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        return bool(list_devices().devices)

    def devices_here(self) -> list[str]:
        """Return descriptions of this machine's devices; the first one is used."""
        return [device.text for device in list_devices().devices]

    def start(self) -> Server:
        """Start a server on this machine. Raises ``DeviceUnavailable``."""
        return self._start(None)

    def _start(self, order: str | None) -> Server:
        listing = list_devices()
        if not any(device.is_cpu or order is None for device in listing.devices):
            kind = "device" if order is None else "CPU device"
            reason = listing.error or f"this machine has no OpenCL {kind} ({_POCL})"
            raise DeviceUnavailable(f"target opencl: {reason}. See 'relax-tapml doctor opencl'")
        library = opencl_runtime()
        return DeviceProcess(
            arguments=[] if library is None else [str(library)],
            environment={} if order is None else one_by_one(order),
        )

    def _open(self, order: str | None, target: Any, timeout_s: float) -> DeviceSession:
        start_s = max(timeout_s, START_S)
        return open_with_retries(
            lambda: self.connect(self._start(order), target, timeout_s=timeout_s, start_s=start_s)
        )


def _limited(target: Any, device: OpenCLDevice) -> Any:
    """Return a target with the limits of a device, and what that lacks in its keys."""
    attributes, defaults = json.loads(str(target)), tvm.target.Target(target.kind.name).attrs
    for name in _THREADS:
        attributes[name] = min(int(target.attrs[name]), device.max_threads)
    stated = int(target.attrs[_LOCAL_MEMORY])
    is_default = stated == int(defaults[_LOCAL_MEMORY])
    most = device.local_memory_bytes
    attributes[_LOCAL_MEMORY] = most if is_default else min(stated, most)
    if device.is_cpu:
        attributes["thread_warp_size"] = 1
    lacks = (_WITHOUT[name] for name in device.lacks)
    attributes["keys"] = [*attributes["keys"], *(key for key in lacks if key not in target.keys)]
    return tvm.target.Target(attributes)


def _check_extensions(built: Any, target: Any) -> None:
    """Raise ``LoweringError`` if kernels need what the target's device lacks."""
    sources = [module.inspect_source() for module in built.imports]
    for name, key in _WITHOUT.items():
        if key in target.keys and any(_MARKS[name] in source for source in sources):
            raise LoweringError(
                f"the kernel needs {name}, which the OpenCL device of this machine lacks "
                f"({EXTENSIONS[name]})"
            )
