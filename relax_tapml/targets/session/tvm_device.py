"""The TVM device that a target's kernels run on."""

from __future__ import annotations

from typing import Any

import tvm

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.opencl.runtime import load_opencl


def device_of(target: Any, remote: Any = None) -> Any:
    """Return the first device a target's kernels run on, here or in an RPC session.

    Parameters
    ----------
    target
        A ``tvm.target.Target``.
    remote
        A ``tvm.rpc.RPCSession``, or None for this process.

    Raises
    ------
    DeviceUnavailable
        The runtime has no support for the device and cannot get it, or the machine has none.
    """
    device = tvm.runtime.device_from_target(target)
    name = device.__device_type_name__()
    where = "here" if remote is None else "on the device's machine"
    if remote is None and name == "opencl":
        load_opencl()
    if remote is not None:
        device = remote.device(device.dlpack_device_type(), device.index)
    try:
        is_there = device.exist
    except RuntimeError as error:
        raise DeviceUnavailable(
            f"target {target.kind.name}: the TVM runtime {where} does not support {name} devices"
        ) from error
    if not is_there:
        raise DeviceUnavailable(
            f"target {target.kind.name}: there is no {name} device {where}; use a session on a "
            "machine that has one (rpc:HOST:PORT or tracker:HOST:PORT:KEY)"
        )
    return device
