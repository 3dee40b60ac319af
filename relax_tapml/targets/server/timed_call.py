"""Time one call of a VM's function, without a call before it that has the same arguments.

TVM's evaluator, whose clock for a GPU are events in its stream, calls what it times once before: a
kernel that keeps its results would be timed while it has nothing to do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi

from relax_tapml.targets.server.functions import ServerFunction
from relax_tapml.targets.server.region_calls import leaves

_TIMED = "relax_tapml.targets.timed"


def timed_call(machine: Any, name: str, args: Sequence[Any], device: Any) -> tuple[float, Any]:
    """Return how long a call of a function on a device takes in seconds, and what it returns."""
    function = machine[name]
    calls: list[Any] = []

    def call() -> None:
        calls.append(function(*args) if calls else None)

    tvm.register_global_func(_TIMED, call, override=True)
    evaluator = tvm.get_global_func("runtime.RPCTimeEvaluator")
    kind, index = device.dlpack_device_type(), device.index
    blob = evaluator(None, _TIMED, kind, index, 1, 1, 0, 100, 0, 1, 0, "")()
    return struct.unpack("@d", bytes(blob))[0], calls[1]


def register() -> None:
    """Register the server's half as a global function."""

    def call(machine: Any, name: str, kind: int, index: int, *args: Any) -> Any:
        seconds, results = timed_call(machine, name, args, tvm.runtime.device(kind, index))
        return tvm_ffi.convert([seconds, *leaves(results)])

    tvm.register_global_func(str(ServerFunction.TIMED_CALL), call, override=True)
