"""PrimFuncs that move and choose values, which are evaluated as they are: nothing is widened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import tvm
from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, prim
from relax_tapml.arrays import Array, empty_aligned
from relax_tapml.capture.host_tensor import tensor_of
from relax_tapml.cpu_schedule.native_cpu import native_cpu_target
from relax_tapml.cpu_schedule.schedule_for_cpu import schedule_for_cpu
from relax_tapml.derive._shadow_runs import tensor_to_write
from relax_tapml.kernel_flow.expressions import choice_of, is_float_expr, nodes

_ENTRY = "moves"


class Moves:
    """Runs a PrimFunc that computes no float: every float that it stores, it has loaded.

    Parameters
    ----------
    function
        As Relax lowers operators.
    results
        Numbers of its parameters that hold results.
    """

    def __init__(self, function: tirx.PrimFunc, results: Sequence[int]) -> None:
        self._function = function
        self._results = list(results)

    @cached_property
    def are_all(self) -> bool:
        """Whether the PrimFunc does nothing else: it casts no floats, and calculates with none."""
        kinds = (prim.Add, prim.Sub, prim.Mul, prim.Div, prim.Cast)
        found = [node for kind in kinds for node in nodes(self._function.body, kind)]
        found += [
            call
            for call in nodes(self._function.body, ir_expr.Call)
            if choice_of(call) is None and not isinstance(call, TensorLoad)
        ]
        return not any(is_float_expr(node) for node in found)

    @cached_property
    def _run(self) -> Any:
        target = native_cpu_target()
        function = schedule_for_cpu(self._function, target).with_attr("global_symbol", _ENTRY)
        return tvm.tirx.build(tvm.IRModule({_ENTRY: function}), target=target)[_ENTRY]

    def results(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
    ) -> list[Array]:
        """Return results, of the dtypes and shapes of ``like``.

        Parameters
        ----------
        arguments, scalars
            By number of the parameter.
        like
            An array for each result.
        """
        passed: dict[int, Any] = dict(scalars)
        for number, array in arguments.items():
            passed[number] = tensor_of(array)
        made = [empty_aligned(array.shape, array.dtype) for array in like]
        for number, array in zip(self._results, made, strict=True):
            array[...] = 0
            passed[number] = tensor_to_write(array)
        self._run(*(passed[number] for number in range(len(self._function.params))))
        return made
