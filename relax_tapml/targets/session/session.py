"""The interface of a device session, for hybrid runs and replays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from relax_tapml.arrays import Array
from relax_tapml.targets.session.traffic import Traffic

# A value that lives on the device: a tvm.runtime.Tensor, remote for RPC sessions.
DeviceTensor = Any
# Bytecode linked with its kernels on the device; opaque to callers.
DeviceModule = Any
# An argument of a call: a tensor of the same session, a tuple of ints for a shape, or a scalar.
DeviceValue = Any


class DeviceSession(Protocol):
    """A device that runs Relax bytecode with prebuilt kernels; for one thread at a time.

    Every method raises ``DeviceError``, ``DeviceCrash`` or ``DeviceTimeout``; after the last two
    the session has ended and only ``close`` may be called. ``DeviceUnavailable`` means that the
    machine of the device lacks disk space or descriptors.
    """

    is_isolated: bool
    """Whether its effects end with it, so that another session starts without them."""

    traffic: Traffic
    """Bytes transferred since the session opened."""

    def upload(self, array: Array) -> DeviceTensor:
        """Copy an array to the device, in its own dtype."""

    def download(self, tensor: DeviceTensor) -> Array:
        """Copy a device tensor back; bfloat16 and float8 come as ``ml_dtypes``."""

    def holds(self, tensor: DeviceTensor, array: Array) -> bool:
        """Whether a device tensor has the bytes of an array of its shape and dtype.

        They are compared where the tensor is, where the session can; ``traffic`` counts it as
        fetched in any case.
        """

    def parameter(self, name: str, array: Array) -> DeviceTensor:
        """Return the device copy of a parameter, uploading it on first use in this session.

        A name belongs to one array: ``UsageError`` if its shape or dtype changes.
        """

    def maps(self, array: Array) -> bool:
        """Whether a parameter has the pages of the file that an array lies in.

        Then a parameter takes no memory of the device, and making one copies nothing.
        """

    def shares(self, device: Any) -> bool:
        """Whether its tensors lie on a ``tvm.runtime.Device`` of this process.

        Then a parameter of that device is one of the session as it is, and ``copy`` copies tensors
        either way.
        """

    def copy(self, tensor: DeviceTensor, *, is_upload: bool) -> DeviceTensor:
        """Copy a tensor of a device that it ``shares``, without leaving the device."""

    def load(self, bytecode: bytes, kernels: Sequence[Path]) -> DeviceModule:
        """Link serialised ``relax.VMExecutable`` bytecode with kernel libraries.

        ``kernels`` are shared objects; each content is sent and loaded once per session.
        """

    def call(
        self, module: DeviceModule, function: str, args: Sequence[DeviceValue]
    ) -> list[DeviceTensor]:
        """Run a Relax function to its end; results stay on the device.

        The function returns a tensor, an object that stays on the device (a KV cache), or a tuple,
        which may be nested and is flattened. Over RPC a result may be a view of an argument (a
        reshape), but not the argument itself.
        """

    def seconds(
        self, module: DeviceModule, function: str, args: Sequence[DeviceValue], calls: int
    ) -> float:
        """Return how long one of several calls of a Relax function takes, by the device's clock.

        A GPU is timed by events in its stream, a CPU by the clock of its process; what the VM does
        for a call counts.
        """

    def timed(
        self, module: DeviceModule, function: str, args: Sequence[DeviceValue]
    ) -> tuple[float, list[DeviceTensor]]:
        """Do a call of a Relax function as ``call`` does; return also how long it took.

        No call with these arguments comes before it, but on a server without Python.
        """

    def call_runtime(self, name: str, args: Sequence[Any]) -> Any:
        """Call a function of the device's TVM runtime, by its registered name.

        ``args`` are objects that functions on the device have returned, tuples of ints for shapes,
        and numbers; the result is such a value, or None.
        """

    def release(self) -> None:
        """Free the parameters, and memory that is kept for results to come; never raises.

        The next use of a parameter uploads it again.
        """

    def free_kept(self) -> None:
        """Free memory that is kept for results to come; never raises."""

    def close(self) -> None:
        """End the session and everything it started. Never raises; may be called twice."""
