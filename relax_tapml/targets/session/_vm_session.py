"""What all sessions share: tensors, parameters, and Relax VMs on one device."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from relax_tapml.arrays import Array, are_same_bytes
from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.files.machine import Lack
from relax_tapml.files.mapped import is_mapped
from relax_tapml.targets.session._loaded_kernels import LoadedKernels
from relax_tapml.targets.session.session import DeviceModule, DeviceTensor, DeviceValue
from relax_tapml.targets.session.tensors import (
    check_dtype,
    plain,
    to_device,
    to_host,
)
from relax_tapml.targets.session.traffic import Traffic


def check_machine(message: str, lack: Lack | None) -> None:
    """Raise an error if the machine of a device, and no kernel, caused a failure.

    Parameters
    ----------
    message
        What failed.
    lack
        What the machine lacked. Memory does not count: a kernel may have used it up.

    Raises
    ------
    DeviceUnavailable
        The machine lacks disk space, descriptors or rights.
    """
    if lack is not None and not lack.is_memory:
        raise DeviceUnavailable(
            f"{message.rstrip('.')}. The machine of the device caused this{lack.where}, not the "
            f"code that runs there. {lack.fix}"
        )


class VMSession(ABC):
    """A ``DeviceSession`` over a TVM device; a subclass defines where the device is.

    Parameters
    ----------
    device
        The ``tvm.runtime.Device`` tensors are copied to and functions run on.
    """

    is_isolated = True

    def __init__(self, device: Any) -> None:
        self.traffic = Traffic()
        self._device = device
        self._kernels = LoadedKernels(self._load_kernels)
        self._parameters: dict[str, tuple[tuple[Any, ...], DeviceTensor]] = {}
        # Of mapped arrays, which must live as long: their addresses tell them apart.
        self._of_mapped: dict[tuple[Any, ...], tuple[Array, DeviceTensor]] = {}

    @abstractmethod
    def _guard(self, action: str) -> AbstractContextManager[None]:
        """Turn every failure inside into a ``DeviceFault`` about ``action``."""

    @abstractmethod
    def _load_kernels(self, path: Path, name: str) -> Any:
        """Load a shared object on the device; ``name`` is unique to its content."""

    @abstractmethod
    def _load_bytecode(self, bytecode: bytes) -> Any:
        """Return the ``relax.VMExecutable`` module of serialised bytecode."""

    @abstractmethod
    def _shape(self, extents: tuple[int, ...]) -> Any:
        """Return a shape as an argument of a function on the device."""

    @abstractmethod
    def _runtime_function(self, name: str) -> Any:
        """Return a global function on the device."""

    def _call(self, module: DeviceModule, function: str, args: Sequence[Any]) -> list[DeviceTensor]:
        """Run a function to its end, and return its tensors."""
        results = self._flatten(module[function](*args))
        # A GPU reports a kernel's failure when it runs it, which may be after the call.
        self._device.sync()
        return results

    @abstractmethod
    def _flatten(self, result: Any) -> list[DeviceTensor]:
        """Return the tensors of a result, in order, independent of the call's arguments."""

    def _to_device(self, array: Array) -> DeviceTensor:
        return to_device(array, self._device)

    def _to_host(self, tensor: DeviceTensor) -> Array:
        return to_host(tensor)

    def upload(self, array: Array) -> DeviceTensor:
        """Copy an array to the device, in its own dtype."""
        check_dtype(array)
        with self._guard(f"upload of {array.dtype}{list(array.shape)}"):
            tensor = self._to_device(plain(array))
        self.traffic += Traffic(to_device=array.nbytes)
        return tensor

    def download(self, tensor: DeviceTensor) -> Array:
        """Copy a device tensor back; bfloat16 and float8 come as ``ml_dtypes``."""
        with self._guard("download"):
            array = self._to_host(tensor)
        self.traffic += Traffic(to_host=array.nbytes)
        return array

    def holds(self, tensor: DeviceTensor, array: Array) -> bool:
        """Whether a device tensor has the bytes of an array of its shape and dtype."""
        with self._guard("download"):
            is_equal = self._is_equal(tensor, plain(array))
        self.traffic += Traffic(to_host=array.nbytes)
        return is_equal

    def _is_equal(self, tensor: DeviceTensor, array: Array) -> bool:
        return are_same_bytes(self._to_host(tensor), array)

    def parameter(self, name: str, array: Array) -> DeviceTensor:
        """Return the device copy of a parameter, uploading it on first use in this session.

        Names of one mapped array, as those of tied weights in a store, share it.
        """
        kind = (array.shape, array.dtype)
        if name not in self._parameters:
            self._parameters[name] = (kind, self._uploaded(array))
        known, tensor = self._parameters[name]
        if known != kind:
            raise UsageError(
                f"parameter {name}: expected {known[1]}{list(known[0])}, as uploaded before, got "
                f"{array.dtype}{list(array.shape)}; give another array another name"
            )
        return tensor

    def shares(self, device: Any) -> bool:
        """Whether its tensors lie on a device of this process: not by default."""
        del device
        return False

    def copy(self, tensor: DeviceTensor, *, is_upload: bool) -> DeviceTensor:
        """Copy a tensor of a device that it ``shares``, without leaving the device."""
        with self._guard("upload" if is_upload else "download"):
            copied = tensor.copyto(tvm.runtime.empty(tensor.shape, tensor.dtype, tensor.device))
        size_bytes = math.prod(tensor.shape) * tensor.dtype.itemsize
        self.traffic += Traffic(to_device=size_bytes) if is_upload else Traffic(to_host=size_bytes)
        return copied

    def load(self, bytecode: bytes, kernels: Sequence[Path]) -> DeviceModule:
        """Link serialised bytecode with kernel libraries, each sent once per session."""
        with self._guard("load"):
            executable = self._load_bytecode(bytecode)
            for path in kernels:
                executable.import_module(self._kernels[path])
            return relax.VirtualMachine(executable, self._device)

    def call(
        self, module: DeviceModule, function: str, args: Sequence[DeviceValue]
    ) -> list[DeviceTensor]:
        """Run a Relax function to its end; results stay on the device."""
        with self._guard(f"call of {function}"):
            values = [self._shape(arg) if isinstance(arg, tuple) else arg for arg in args]
            return self._call(module, function, values)

    def seconds(
        self, module: DeviceModule, function: str, args: Sequence[DeviceValue], calls: int
    ) -> float:
        """Return how long one of several calls of a Relax function takes, by the device's clock."""
        with self._guard(f"timing of {function}"):
            values = [self._shape(arg) if isinstance(arg, tuple) else arg for arg in args]
            timer = module.time_evaluator(function, self._device, number=calls, repeat=1)
            return float(timer(*values).mean)

    def timed(
        self, module: DeviceModule, function: str, args: Sequence[DeviceValue]
    ) -> tuple[float, list[DeviceTensor]]:
        """Do a call of a Relax function as ``call`` does; return also how long it took."""
        with self._guard(f"timing of {function}"):
            values = [self._shape(arg) if isinstance(arg, tuple) else arg for arg in args]
            return self._timed(module, function, values)

    def _timed(
        self, module: DeviceModule, function: str, args: Sequence[Any]
    ) -> tuple[float, list[DeviceTensor]]:
        timer = module.time_evaluator(function, self._device, number=1, repeat=1)
        return float(timer(*args).mean), self._call(module, function, args)

    def call_runtime(self, name: str, args: Sequence[Any]) -> Any:
        """Call a function of the device's TVM runtime, by its registered name."""
        with self._guard(f"call of {name}"):
            values = [self._shape(arg) if isinstance(arg, tuple) else arg for arg in args]
            return self._runtime_function(name)(*values)

    def _uploaded(self, array: Array) -> DeviceTensor:
        if not is_mapped(array):
            return self.upload(array)
        key = (array.ctypes.data, array.shape, array.strides, array.dtype)
        if key not in self._of_mapped:
            self._of_mapped[key] = (array, self.upload(array))
        return self._of_mapped[key][1]

    def maps(self, array: Array) -> bool:
        """Whether a parameter has the pages of an array: not by default."""
        del array
        return False

    def release(self) -> None:
        """Free the parameters, and memory that is kept for results to come."""
        with suppress(Exception):  # A dead server has freed them already.
            self._forget_parameters()
        self.free_kept()

    def free_kept(self) -> None:
        """Free memory that is kept for results to come."""
        with suppress(Exception):
            self._free_kept()

    def _forget_parameters(self) -> None:
        self._parameters.clear()
        self._of_mapped.clear()

    @abstractmethod
    def _free_kept(self) -> None:
        """Free the memory of results that VMs on the device keep for the next ones."""

    def close(self) -> None:
        """Free what the session holds on the device."""
        self._forget_parameters()
        self._kernels.clear()
