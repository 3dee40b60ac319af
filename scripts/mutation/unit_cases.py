"""The cases of a carved suite as plain arrays, for calling one PrimFunc directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.errors import TapmlError
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.tolerances import read_tolerance


class NotAKernelCallError(TapmlError):
    """A unit does more than call one PrimFunc; the message is the reason, for a report."""


@dataclass(frozen=True, kw_only=True)
class KernelCase:
    """One recorded call of a PrimFunc.

    Parameters
    ----------
    name
        The case in the suite.
    inputs, oracles
        The tensors before the outputs in the PrimFunc's parameters, and the recorded outputs.
    tolerances
        One for each oracle.
    scalars
        The values of its parameters behind the outputs: symbolic dimensions.
    is_probe
        Whether it was not recorded.
    """

    name: str
    inputs: tuple[Array, ...]
    oracles: tuple[Array, ...]
    tolerances: tuple[Tolerance, ...]
    scalars: tuple[int, ...]
    is_probe: bool = False


@dataclass(frozen=True, kw_only=True)
class KernelCases:
    """A unit that is one PrimFunc, and its cases."""

    unit: str
    function: tirx.PrimFunc
    cases: tuple[KernelCase, ...]


def kernel_cases(suite: Suite, unit: str) -> KernelCases:
    """Read the PrimFunc of a unit and the arrays of its cases.

    Raises
    ------
    NotAKernelCallError
        The unit is a Relax function, writes in place, or takes something other than tensors.
    StoreError
        A file of the suite cannot be read.
    """
    module = suite.module(unit)
    function: tirx.PrimFunc | None = None
    cases = []
    read: dict[str, Array] = {}

    def tensor(digest: str) -> Array:
        # Cases share weights; so do their arrays then.
        if digest not in read:
            read[digest] = suite.tensor(digest)
        return read[digest]

    for case in suite.manifest.units[unit].cases:
        call = _only_call(module[case.function], unit)
        callee = call.args[0]
        if not isinstance(module[callee], tirx.PrimFunc):
            raise NotAKernelCallError(f"{unit} is a Relax function")
        function = module[callee]
        arrays = [tensor(item.tensor) for item in case.inputs]
        params = list(module[case.function].params)
        cases.append(
            KernelCase(
                name=case.name,
                inputs=tuple(_argument(arg, params, arrays, unit) for arg in call.args[1]),
                oracles=tuple(tensor(output.tensor) for output in case.outputs),
                tolerances=tuple(read_tolerance(suite, case, output) for output in case.outputs),
                scalars=tuple(_scalar(v, unit) for a in call.args[2:] for v in a.values),
                is_probe=case.is_probe,
            )
        )
    if function is None:
        raise NotAKernelCallError(f"{unit} has no cases")
    return KernelCases(unit=unit, function=function, cases=tuple(cases))


def _only_call(function: Any, unit: str) -> relax.Call:
    calls = [
        binding.value
        for block in function.body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call)
    ]
    call_tir = tvm.ir.Op.get("relax.call_tir")
    if len(calls) != 1 or not calls[0].op.same_as(call_tir):
        raise NotAKernelCallError(f"{unit} is not called with call_tir alone")
    return calls[0]


def _argument(arg: Any, params: list[Any], arrays: list[Array], unit: str) -> Array:
    for param, array in zip(params, arrays, strict=True):
        if arg.same_as(param):
            return array
    raise NotAKernelCallError(f"{unit} takes an argument that is not a tensor")


def _scalar(value: Any, unit: str) -> int:
    if not isinstance(value, tirx.IntImm):
        raise NotAKernelCallError(f"{unit} takes a dimension that is not known")
    return int(value)
