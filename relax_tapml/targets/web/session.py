"""A session in a browser or in Node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.errors import DeviceError
from relax_tapml.targets.session.rpc_session import RPCSession, Server
from relax_tapml.targets.session.session import DeviceModule, DeviceTensor, DeviceValue
from relax_tapml.targets.web.side_module import prefix_of


class WebSession(RPCSession):
    """Run in a WebAssembly instance that loads kernels as side modules.

    Parameters
    ----------
    server, target, timeout_s, start_s
        As for ``RPCSession``.
    runtime
        TVM's runtime, as WebAssembly.

    Raises
    ------
    DeviceUnavailable
        No page connected, or it has no WebGPU adapter.
    """

    def __init__(
        self,
        server: Server,
        target: Any,
        *,
        runtime: bytes,
        timeout_s: float,
        start_s: float | None = None,
    ) -> None:
        super().__init__(
            server,
            target,
            timeout_s=timeout_s,
            start_s=start_s,
            constructor=("rpc.WasmSession", runtime),
        )

    def seconds(
        self, module: DeviceModule, function: str, args: Sequence[DeviceValue], calls: int
    ) -> float:
        """Refuse: TVM's runtime has no timer here, and a call of it ends Node."""
        del module, args, calls
        raise DeviceError(f"timing of {function}: TVM's runtime for WebGPU has no timer")

    def _to_device(self, array: Array) -> DeviceTensor:
        tensor = tvm.runtime.empty(array.shape, array.dtype, self._device)
        self._device.sync()  # If there is no memory for it, nothing must be sent.
        return tensor.copyfrom(array)

    def _load_kernels(self, path: Path, name: str) -> Any:
        del name  # symbols are distinguished by the prefix
        prefix = prefix_of(path)
        self._device.sync()  # Report earlier failures now: this kernel did not cause them.
        load = self._remote.get_function("relax_tapml.load_kernels")
        error = load(prefix, bytearray(path.read_bytes()))
        if error:
            raise RuntimeError(error)
        return self._remote.get_function("ffi.SystemLib")(prefix)
