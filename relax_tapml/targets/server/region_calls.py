"""Call a function of a VM with one message, its results included; both halves.

Through TVM's RPC a result must be counted, fetched and copied one by one, five messages each: more
than a small kernel takes. A server with Python does all that itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import tvm
import tvm_ffi

from relax_tapml.targets.server.functions import (
    ServerFunction,
    optional_function,
    server_function,
)


class RegionCalls:
    """The client's half.

    Parameters
    ----------
    remote
        A ``tvm.rpc.RPCSession``.
    call
        The function of its server, which has called ``register``.
    """

    def __init__(self, remote: Any, call: Any) -> None:
        self._call = call
        self._size = server_function(remote, ServerFunction.ARRAY_SIZE)
        self._item = server_function(remote, ServerFunction.ARRAY_ITEM)
        # The number of results is a matter of the function's type: it is asked for once.
        self._counts: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()

    @classmethod
    def of(cls, remote: Any) -> RegionCalls | None:
        """Return the half for a connection; None for a server without Python."""
        call = optional_function(remote, ServerFunction.CALL)
        return None if call is None else cls(remote, call)

    def __call__(self, machine: Any, name: str, args: Sequence[Any]) -> list[Any]:
        """Run a Relax function to its end, and return its results, flattened and in order.

        Parameters
        ----------
        machine
            The remote ``relax.VirtualMachine``.
        name
            Of the function.
        args
            Remote tensors, remote shapes, numbers.
        """
        found = self._call(machine.module, name, *args)
        counts = self._counts.setdefault(machine, {})
        if name not in counts:
            counts[name] = self._size(found)
        return [self._item(found, index) for index in range(counts[name])]


def register() -> None:
    """Register the server's half as a global function."""

    def call(machine: Any, name: str, *args: Any) -> Any:
        results = leaves(machine[name](*args))
        taken = [_extent(arg) for arg in args if isinstance(arg, tvm.runtime.Tensor)]
        owned = [
            _owned(result, taken) if isinstance(result, tvm.runtime.Tensor) else result
            for result in results
        ]
        tensors = [result for result in owned if isinstance(result, tvm.runtime.Tensor)]
        for device in {tensor.device for tensor in tensors}:
            # A GPU reports a kernel's failure when it runs it, which may be after the call.
            device.sync()
        return tvm_ffi.convert(owned)

    tvm.register_global_func(str(ServerFunction.CALL), call, override=True)


def leaves(result: Any) -> list[Any]:
    """Return the tensors and objects of a result, in order."""
    if isinstance(result, list | tuple | tvm_ffi.Array):
        return [leaf for item in result for leaf in leaves(item)]
    return [result]


def _owned(result: Any, taken: Sequence[tuple[int, int]]) -> Any:
    """Return a result; a copy of one that is a view of an argument (a reshape).

    Over RPC such a view does not keep the argument's memory.
    """
    begin, end = _extent(result)
    if not any(begin < last and first < end for first, last in taken):
        return result
    return result.copyto(tvm.runtime.empty(result.shape, result.dtype, result.device))


def _extent(tensor: Any) -> tuple[int, int]:
    begin = tensor.data_ptr()
    return begin, begin + math.prod(tensor.shape) * tensor.dtype.itemsize
