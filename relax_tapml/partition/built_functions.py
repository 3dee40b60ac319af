"""The functions of a Relax VM in the form that a model calls: with arrays, without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.passes.weights import DERIVED_ATTR, weight_params
from relax_tapml.targets.session.tensors import to_host

WeightNames = Mapping[str, Sequence[str]]
"""Names of the weights that each function takes after its inputs, in order."""


def weight_names(module: tvm.IRModule) -> WeightNames:
    """Return the names of the parameters after the first ``num_input`` of each entry function."""
    return {
        gvar.name_hint: tuple(var.name for var in weight_params(function))
        for gvar, function in module.functions.items()
        if isinstance(function, relax.Function)
        and "global_symbol" in (function.attrs or {})
        and DERIVED_ATTR not in (function.attrs or {})
    }


class BuiltFunctions:
    """The functions of a VM, by name.

    Parameters
    ----------
    machine
        The VM.
    upload
        Copies an array to its device.
    weight
        Returns a weight on its device, by name.
    weights
        Which weights each function takes.
    """

    def __init__(
        self,
        machine: relax.VirtualMachine,
        upload: Callable[[Array], Any],
        weight: Callable[[str], Any],
        weights: WeightNames,
    ) -> None:
        self._machine = machine
        self._upload = upload
        self._weight = weight
        self._weights = weights

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return a function; see ``relax_tapml.frontend.model.Functions``.

        Raises
        ------
        UsageError
            There is none of that name.
        """
        if name not in self._weights:
            raise UsageError(
                f"no function '{name}'; the module has: "
                f"{', '.join(sorted(self._weights)) or 'none'}"
            )
        function = self._machine[name]

        def call(*values: Any) -> list[Any]:
            weights = [self._weight(weight) for weight in self._weights[name]]
            return flat_values(function(*map(self._argument, values), *weights))

        return call

    def runtime(self, name: str) -> Callable[..., Any]:
        """Return a function of the runtime; see ``relax_tapml.frontend.model.Functions``.

        Raises
        ------
        UsageError
            This TVM has none of that name.
        """
        function = runtime_function(name)
        return lambda *values: function(*map(self._argument, values))

    def _argument(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tvm_ffi.Shape(value)
        return value if isinstance(value, int | float | tvm_ffi.Object) else self._upload(value)


def runtime_function(name: str) -> Any:
    """Return a global function of TVM. Raises ``UsageError`` if there is none of that name."""
    function = tvm.get_global_func(name, allow_missing=True)
    if function is None:
        raise UsageError(f"no function '{name}' in this TVM, {tvm.__version__}")
    return function


def flat_values(result: Any) -> list[Any]:
    """Flatten a VM function's result, left to right: tensors as arrays, objects as they are."""
    if isinstance(result, tvm.runtime.Tensor):
        return [to_host(result)]
    if isinstance(result, list | tuple | tvm_ffi.Array):
        return [value for item in result for value in flat_values(item)]
    return [result]
