"""A device session in this process: fastest, open to a debugger, without protection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from relax_tapml.arrays import Array, are_same_bytes
from relax_tapml.capture.host_tensor import HostTensor, tensor_over
from relax_tapml.errors import DeviceError, MachineError, StoreError
from relax_tapml.files.machine import lack_of
from relax_tapml.files.mapped import array_at, place_of
from relax_tapml.targets.server.functions import ServerFunction
from relax_tapml.targets.server.timed_call import timed_call
from relax_tapml.targets.session._fault_text import fault_text
from relax_tapml.targets.session._vm_session import VMSession, check_machine
from relax_tapml.targets.session.session import DeviceModule, DeviceTensor
from relax_tapml.targets.session.tensors import free_kept
from relax_tapml.targets.session.tvm_device import device_of

_FIX = "Run again"


class InlineSession(VMSession):
    """Run on a device of this process.

    A kernel that crashes ends this process, and one that hangs blocks it: there is no timeout.

    Parameters
    ----------
    target
        The ``tvm.target.Target`` whose device to use.

    Raises
    ------
    DeviceUnavailable
        The machine has no such device.
    """

    is_isolated = False

    def __init__(self, target: Any) -> None:
        super().__init__(device_of(target))

    def shares(self, device: Any) -> bool:
        """Whether a device of this process is the session's own, and has memory of its own.

        Not the CPU: there a wrong kernel could write to the model's only copy of its weights.
        """
        return bool(device == self._device) and not self._is_cpu

    @property
    def _is_cpu(self) -> bool:
        return bool(self._device.dlpack_device_type() == tvm.cpu().dlpack_device_type())

    @contextmanager
    def _guard(self, action: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            text = fault_text(error)
            message = f"{action} failed in this process: {text}"
            check_machine(message, lack_of(error))
            raise DeviceError(message, text=text) from error

    def _to_device(self, array: Array) -> DeviceTensor:
        if self._is_cpu:
            # Mapped once more, so that a kernel which writes to it changes its own pages only.
            place = place_of(array)
            own = None
            with suppress(StoreError, MachineError):  # Then it is copied.
                own = None if place is None else array_at(place, array.dtype, array.shape, fix=_FIX)
            tensor = None if own is None else tensor_over(own)
            if tensor is not None:
                return tensor
        return super()._to_device(array)

    def _is_equal(self, tensor: DeviceTensor, array: Array) -> bool:
        if self._is_cpu:
            return are_same_bytes(HostTensor.view_of(tensor).data, array)
        return super()._is_equal(tensor, array)

    def _load_kernels(self, path: Path, name: str) -> Any:  # noqa: ARG002 - the name is for servers
        return tvm.runtime.load_module(str(path))

    def _load_bytecode(self, bytecode: bytes) -> Any:
        return tvm.get_global_func(str(ServerFunction.LOAD_BYTECODE))(bytecode)

    def _free_kept(self) -> None:
        free_kept()

    def _shape(self, extents: tuple[int, ...]) -> Any:
        return tvm_ffi.Shape(extents)

    def _timed(
        self, module: DeviceModule, function: str, args: Sequence[Any]
    ) -> tuple[float, list[DeviceTensor]]:
        seconds, result = timed_call(module, function, args, self._device)
        return seconds, self._flatten(result)

    def _runtime_function(self, name: str) -> Any:
        return tvm.get_global_func(name)

    def _flatten(self, result: Any) -> list[DeviceTensor]:
        if isinstance(result, list | tuple | tvm_ffi.Array):
            return [leaf for item in result for leaf in self._flatten(item)]
        return [result]
