"""Protection of the host's kernels against wrong values from the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import tirx

from relax_tapml.errors import DeviceCrash, MachineError, TapmlError
from relax_tapml.partition._value_dependence import deciding_params
from relax_tapml.processes.fork import ForkChannel, ForkFailed, ForkRetries, collected

# Larger tensors are assumed to be tables, such as packed weights, and not to hold indices.
_LARGEST_BYTES = 16 << 20

Instrument = Callable[..., None]


class HostGuard:
    """Keeps wrong values from crashing a kernel of the host in this process.

    A wrong device may return an index far outside a tensor, or a divisor of zero. So a kernel whose
    indices or divisors depend on its inputs is first called in a fork, unless it has returned for
    the same values before. A right device returns the same whole numbers as the source, so almost
    no kernel is called twice.

    Parameters
    ----------
    units
        The module as prepared for the host: its PrimFuncs have the names of kernels.
    """

    def __init__(self, units: tvm.IRModule) -> None:
        found = {
            gvar.name_hint: deciding_params(function)
            for gvar, function in units.functions.items()
            if isinstance(function, tirx.PrimFunc)
        }
        self._deciding = {name: params for name, params in found.items() if params}
        self._returned: set[bytes] = set()
        self._end: TapmlError | None = None

    def instrument(self, *, has_device: bool) -> Instrument | None:
        """Return an instrument for the VM of a host; None if no kernel of it needs one.

        Parameters
        ----------
        has_device
            Whether anything is on a device. If not, the values come from the source and are safe,
            and they are stored as such.
        """
        if not self._deciding:
            return None

        def watch(func: Any, name: str, before_run: bool, _ret: Any, *args: Any) -> None:
            params = self._deciding.get(name)
            if params is None or not before_run:
                return
            key = _digest(name, [args[number] for number in params if number < len(args)])
            if key in self._returned:
                return
            if has_device:
                self._try(func, name, args)
            self._returned.add(key)

        return watch

    def take_end(self) -> TapmlError | None:
        """Return the error that ended the last call, a crash or a lack of the machine, if any."""
        end, self._end = self._end, None
        return end

    def _try(self, func: Any, name: str, args: Sequence[Any]) -> None:
        def work(_fork: ForkChannel) -> None:
            try:
                func(*args)
            except Exception:
                return  # It raises again in this process.

        try:
            collected(work, ForkRetries(f"running {name} on the host"))
        except MachineError as error:
            self._end = error
            raise
        except ForkFailed as death:
            self._end = DeviceCrash(
                f"kernel {name} on the host {death.text}, run on values that the device had "
                "computed: an index is outside its tensor, or a divisor is zero",
                text=death.printed,
            )
            raise self._end from None


def _digest(name: str, args: Sequence[Any]) -> bytes:
    found = hashlib.sha256(name.encode())
    for arg in args:
        if isinstance(arg, tvm.runtime.Tensor):
            array = arg.numpy()
            found.update(f"{array.dtype}{array.shape}".encode())
            if array.nbytes <= _LARGEST_BYTES:
                found.update(array.tobytes())
        else:
            found.update(repr(arg).encode())
    return found.digest()
