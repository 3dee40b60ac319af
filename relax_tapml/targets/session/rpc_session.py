"""A device session over a TVM RPC connection."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import tvm

from relax_tapml.arrays import Array
from relax_tapml.errors import (
    DeviceCrash,
    DeviceError,
    DeviceFault,
    DeviceTimeout,
    DeviceUnavailable,
)
from relax_tapml.files.machine import lack_in, lack_now, lack_of
from relax_tapml.files.mapped import place_of
from relax_tapml.processes.deadline import Deadline
from relax_tapml.processes.interrupt import OnInterrupt
from relax_tapml.targets.server.exit_report import ExitReport
from relax_tapml.targets.server.file_exchange import FileExchange
from relax_tapml.targets.server.functions import (
    ServerFunction,
    optional_function,
    runtime_function,
    server_function,
)
from relax_tapml.targets.server.region_calls import RegionCalls
from relax_tapml.targets.session._fault_text import fault_text
from relax_tapml.targets.session._vm_session import VMSession, check_machine
from relax_tapml.targets.session.session import DeviceModule, DeviceTensor
from relax_tapml.targets.session.tvm_device import device_of

_CLOSE_S = 5.0
_RPC_MASK = 128  # TVM adds multiples of it to the kinds of devices behind RPC.


class Server(Protocol):
    """The server of a session, as its client sees it."""

    host: str
    port: int
    key: str
    """Where to connect, and the key to present."""

    name: str
    """For messages."""

    hint: str
    """What to check if it cannot be reached: a sentence."""

    @property
    def pid(self) -> int | None:
        """Return its process id; None if it runs on another machine."""

    @property
    def folder(self) -> Path | None:
        """Return a folder to exchange tensors through; None to send them as messages."""

    def interrupt(self) -> None:
        """Make a call that waits for the server fail. Never raises; called from any thread."""

    def exit_report(self) -> ExitReport:
        """Report how the server ended, after a short wait for one that is ending."""

    def close(self) -> None:
        """End everything that belongs to the server. Never raises; may be called twice."""


class RPCSession(VMSession):
    """Run on a device behind a TVM RPC server, which may lack Python.

    Parameters
    ----------
    server
        Owned and closed by the session.
    target
        The ``tvm.target.Target`` whose device to use there.
    timeout_s
        How long connecting, and then any one call, may take.
    start_s
        How long the server may take to start; ``timeout_s`` by default.
    constructor
        The function that makes the session on the server: its name and its arguments. Empty for
        the server's own process.

    Raises
    ------
    DeviceUnavailable
        The server did not answer in time, refused the key, or has no such device.
    """

    def __init__(
        self,
        server: Server,
        target: Any,
        *,
        timeout_s: float,
        start_s: float | None = None,
        constructor: Sequence[Any] = (),
    ) -> None:
        start_s = start_s or timeout_s
        self._server = server
        self._timeout_s = timeout_s
        self._end: DeviceFault | None = None
        self._runtime_functions: dict[str, Any] = {}
        try:
            with (
                Deadline(start_s, server.interrupt, pid=server.pid) as deadline,
                OnInterrupt(server.interrupt),
            ):
                self._remote = tvm.rpc.connect(
                    server.host,
                    server.port,
                    server.key,
                    session_constructor_args=list(constructor),
                )
                super().__init__(device_of(target, self._remote))
                self._array_size = server_function(self._remote, ServerFunction.ARRAY_SIZE)
                self._array_item = server_function(self._remote, ServerFunction.ARRAY_ITEM)
                self._make_shape = server_function(self._remote, ServerFunction.SHAPE)
                self._files = FileExchange(self._remote, server.folder) if server.folder else None
                self._calls = RegionCalls.of(self._remote) if server.folder else None
                self._timed_call = optional_function(self._remote, ServerFunction.TIMED_CALL)
        except DeviceUnavailable:
            server.close()
            raise
        except Exception as error:
            try:
                exit_report = server.exit_report()
            finally:
                server.close()
            reason = exit_report.cause or fault_text(error)
            if deadline.is_expired:
                reason = f"no answer in {deadline.text}"
            raise DeviceUnavailable(
                f"no device session on {server.name}: {reason}. {server.hint}"
                + (f". Its log ends:\n{exit_report.log}" if exit_report.log else ""),
                is_passing=not deadline.is_expired and not exit_report.has_exited,
            ) from error
        except BaseException:
            server.close()
            raise

    @contextmanager
    def _guard(self, action: str) -> Iterator[None]:
        if self._end is not None:
            raise type(self._end)(f"the session is over: {self._end}", text=self._end.text)
        cause: Exception | None = None
        is_alive = True
        server = self._server
        with Deadline(self._timeout_s, server.interrupt, pid=server.pid) as deadline:
            try:
                with OnInterrupt(server.interrupt):
                    yield
            except Exception as error:
                cause = error
                is_alive = self._is_alive()
            except BaseException:
                # Ctrl-C in the middle of a message: the connection cannot be used again.
                self._finish(DeviceCrash(f"{action} was interrupted"))
                raise
        if is_alive and not deadline.is_expired:
            if cause is None:
                return
            text = fault_text(cause)
            message = f"{action} failed on {server.name}: {text}"
            check_machine(message, lack_of(cause))
            raise DeviceError(message, text=text) from cause
        exit_report = server.exit_report()
        if deadline.is_expired:
            raise self._finish(
                DeviceTimeout(
                    f"{action} on {server.name} did not end in {deadline.text}",
                    text=exit_report.log,
                )
            ) from cause
        reason = fault_text(cause) if cause else ""
        cause_text = exit_report.cause or f"cannot be used any more: {reason}"
        end = self._finish(
            DeviceCrash(
                f"{action}: {server.name} {cause_text}",
                text=exit_report.log or reason,
                is_killed=exit_report.is_killed,
            )
        )
        # On a full disk, writing to a mapped file ends the process by a signal.
        now = lack_now(server.folder) if server.folder else None
        check_machine(str(end), lack_in(end.text) or now)
        raise end from cause

    def _is_alive(self) -> bool:
        # After a fault of a kernel a GPU raises here, although the server still answers.
        try:
            self._device.sync()
        except Exception:
            return False
        return True

    def _finish(self, end: DeviceFault) -> DeviceFault:
        self._end = end
        self._server.interrupt()
        return end

    def maps(self, array: Array) -> bool:
        """Whether a parameter has the pages of an array, as in a process with a CPU as its device.

        Not with an array of another byte order or that is too small to cross through a file.
        """
        return (
            self._files is not None
            and self._files.maps(self._device)
            and self._files.pays_for(array.nbytes, array.dtype.name)
            and array.dtype.isnative
            and place_of(array) is not None
        )

    def _to_device(self, array: Array) -> DeviceTensor:
        if self._files and self._files.pays_for(array.nbytes, array.dtype.name):
            place = place_of(array)
            if place is not None:
                return self._files.map(place, array, self._device)
            return self._files.upload(array, self._device)
        return super()._to_device(array)

    def _to_host(self, tensor: DeviceTensor) -> Array:
        size_bytes = math.prod(tensor.shape) * tensor.dtype.itemsize
        if self._files and self._files.pays_for(size_bytes, str(tensor.dtype)):
            return self._files.download(tensor)
        return super()._to_host(tensor)

    def _is_equal(self, tensor: DeviceTensor, array: Array) -> bool:
        if self._files and self._files.pays_for(array.nbytes, str(tensor.dtype)):
            return self._files.holds(tensor, array)
        return super()._is_equal(tensor, array)

    def _free_kept(self) -> None:
        with self._guard("release"):
            server_function(self._remote, ServerFunction.FREE_KEPT)()

    def _load_kernels(self, path: Path, name: str) -> Any:
        self._remote.upload(str(path), name)
        return self._remote.load_module(name)

    def _load_bytecode(self, bytecode: bytes) -> Any:
        return server_function(self._remote, ServerFunction.LOAD_BYTECODE)(bytecode)

    def _shape(self, extents: tuple[int, ...]) -> Any:
        return self._make_shape(*extents)

    def _runtime_function(self, name: str) -> Any:
        if name not in self._runtime_functions:
            self._runtime_functions[name] = runtime_function(self._remote, name)
        return self._runtime_functions[name]

    def _call(self, module: DeviceModule, function: str, args: Sequence[Any]) -> list[DeviceTensor]:
        if self._calls is None:
            return super()._call(module, function, args)
        return self._calls(module, function, args)

    def _timed(
        self, module: DeviceModule, function: str, args: Sequence[Any]
    ) -> tuple[float, list[DeviceTensor]]:
        if self._timed_call is None:
            return super()._timed(module, function, args)
        # The device as the server counts it.
        kind, index = self._device.dlpack_device_type() % _RPC_MASK, self._device.index
        found = self._timed_call(module.module, function, kind, index, *args)
        size = self._array_size(found)
        return float(self._array_item(found, 0)), [
            self._array_item(found, number) for number in range(1, size)
        ]

    def _flatten(self, result: Any) -> list[DeviceTensor]:
        if isinstance(result, tvm.runtime.Tensor):
            # A view of an argument (a reshape) does not keep the argument's memory over RPC.
            own = tvm.runtime.empty(result.shape, result.dtype, self._device)
            return [result.copyto(own)]
        try:
            size = self._array_size(result)
        except Exception:
            if not self._is_alive():
                raise
            return [result]  # It is no array: an object, which stays there.
        items = (self._array_item(result, i) for i in range(size))
        return [leaf for item in items for leaf in self._flatten(item)]

    def close(self) -> None:
        """End the session and everything it started."""
        if self._end is None:
            self._end = DeviceCrash("it was closed")
            with suppress(Exception), Deadline(_CLOSE_S, self._server.interrupt):
                server_function(self._remote, ServerFunction.CLOSE)()
        self._server.close()
        if self._files:
            self._files.close()
        super().close()
