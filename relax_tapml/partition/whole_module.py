"""A module that the device runs from beginning to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from relax_tapml.arrays import Array
from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.partition.built_functions import WeightNames
from relax_tapml.partition.bytecode import CompiledFunctions, compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import dispatched
from relax_tapml.printable import message_line
from relax_tapml.targets.session.session import DeviceSession


@dataclass(frozen=True, kw_only=True)
class WholeProgram:
    """A module built for the device, all of it.

    Parameters
    ----------
    functions
        Its Relax functions.
    kernels
        Shared objects of its kernels.
    failed
        Why a kernel does not build, so that the program cannot run; empty if all build.
    """

    functions: CompiledFunctions
    kernels: tuple[Path, ...]
    failed: str = ""


def build_whole(
    module: tvm.IRModule, target: tvm.target.Target, library: KernelLibrary
) -> WholeProgram:
    """Build a module, its kernels included.

    Raises
    ------
    LoweringError
        Its Relax functions do not compile.
    """
    module = dispatched(module, target)
    kernels = library.build(module, target)
    try:
        functions = compile_functions(module, target, library)
    except Exception as error:  # Whatever TVM raises about what a pass returned.
        raise_machine_error(error, "compiling the module that the pipeline returned")
        raise LoweringError(f"it does not compile: {message_line(error)}") from error
    failed = "; ".join(dict.fromkeys(kernels.failed.values()))
    return WholeProgram(functions=functions, kernels=kernels.files(), failed=failed)


class WholeModule:
    """A program of ``build_whole``, ready to run: ``whole["main"](*inputs)``.

    Parameters
    ----------
    program
        The program to run.
    session
        The device; it must outlive this object.
    params
        Weights by name; each is sent on first use.
    weights
        Names of the weights that each function takes after its inputs.
    keeps_inputs
        Whether inputs are kept for ``overwritten``.

    Raises
    ------
    DeviceFault
        The device cannot load the program.
    """

    def __init__(
        self,
        program: WholeProgram,
        session: DeviceSession,
        params: Mapping[str, Array],
        weights: WeightNames,
        *,
        keeps_inputs: bool = True,
    ) -> None:
        self._keeps_inputs = keeps_inputs
        self._session = session
        self._params = params
        self._weights = weights
        self._inputs: list[tuple[str, Array, Any]] = []
        kernels = (*program.functions.shape_functions, *program.kernels)
        self._module = session.load(program.functions.bytecode, kernels)

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return a function of arrays, shapes, numbers and objects that stay on the device.

        See ``relax_tapml.frontend.model.Functions``.
        """
        if name not in self._weights:
            names = ", ".join(sorted(self._weights)) or "none"
            raise UsageError(f"no function '{name}'; the module has: {names}")

        def call(*values: Any) -> list[Any]:
            weights = [self._session.parameter(w, self._params[w]) for w in self._weights[name]]
            inputs = [self._argument(value) for value in values]
            if self._keeps_inputs:
                self._inputs += [
                    (f"input {n} of {name}", value, tensor)
                    for n, (value, tensor) in enumerate(zip(values, inputs, strict=True))
                    if isinstance(value, np.ndarray)
                ]
            results = self._session.call(self._module, name, [*inputs, *weights])
            return [
                self._session.download(result) if isinstance(result, tvm.runtime.Tensor) else result
                for result in results
            ]

        return call

    def runtime(self, name: str) -> Callable[..., Any]:
        """Return a function of the device's runtime, where objects are."""
        return lambda *values: self._session.call_runtime(name, values)

    def overwritten(self) -> str:
        """Return a sentence about an input that the module has changed, else an empty string.

        The inputs of all calls so far are compared once and then forgotten.
        """
        inputs, self._inputs = self._inputs, []
        for name, value, tensor in inputs:
            if self._session.download(tensor).tobytes() != value.tobytes():
                return f"it writes to {name}, which it may only read"
        return ""

    def _argument(self, value: Any) -> Any:
        return self._session.upload(value) if isinstance(value, np.ndarray) else value
