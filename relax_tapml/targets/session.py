"""What a device must be able to do for a hybrid run or a replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from relax_tapml.frontend.model import Array

# A value that lives on the device: a tvm.runtime.Tensor, remote for RPC sessions.
DeviceTensor = Any
# Bytecode linked with its kernels on the device; opaque to callers.
DeviceModule = Any


class DeviceSession(Protocol):
    """A device that runs Relax bytecode with prebuilt kernels.

    Every method raises ``DeviceError``, ``DeviceCrash`` or ``DeviceTimeout``; after the last two
    the session is dead and only ``close`` may be called.
    """

    bytes_moved: int
    """Bytes of tensors sent to and fetched from the device since the session opened."""

    def upload(self, array: Array) -> DeviceTensor:
        """Copy an array to the device."""

    def download(self, tensor: DeviceTensor) -> Array:
        """Copy a device tensor back; bfloat16 and float8 come as ``ml_dtypes``."""

    def parameter(self, name: str, array: Array) -> DeviceTensor:
        """Return the device copy of a parameter, uploading it on first use in this session."""

    def load(self, bytecode: bytes, kernels: Sequence[Path]) -> DeviceModule:
        """Link serialised ``relax.VMExecutable`` bytecode with kernel libraries.

        ``kernels`` are shared objects named by content; each is sent once per session.
        """

    def call(
        self, module: DeviceModule, function: str, args: Sequence[DeviceTensor]
    ) -> list[DeviceTensor]:
        """Run a Relax function that returns a tuple of tensors; results stay on the device."""

    def close(self) -> None:
        """End the session and everything it started. Never raises; may be called twice."""
