"""Results of a PrimFunc that are indices of the largest or smallest value: argmax and argmin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import SBlock, TensorLoad, buffer_of, prim
from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.kernel_flow.expressions import loads, nodes

TIES = "indices may differ where the values they choose are equal"


@dataclass(frozen=True, kw_only=True)
class ChosenIndex:
    """The parameter, by number, that an index points into, and the axis along which it counts."""

    values: int
    axis: int

    def tolerance(
        self, arguments: Mapping[int, Array], slack: Mapping[int, Array] | None = None
    ) -> IndexTolerance | None:
        """Return the tolerance of the indices; None if the values are not among the arguments.

        Parameters
        ----------
        arguments
            Tensor arguments by number of the parameter.
        slack
            How far they may be off.
        """
        if self.values not in arguments:
            return None
        return IndexTolerance(
            values=arguments[self.values],
            axis=self.axis,
            origin=TIES,
            slack=(slack or {}).get(self.values),
        )


def chosen_indices(function: tirx.PrimFunc, results: Sequence[int]) -> dict[int, ChosenIndex]:
    """Find results that hold, for each row of a parameter, the place of a chosen value.

    These are results of a reduction that keeps either its index so far or the variable that it
    reduces over, and of copies of such a result. ::

        index[i] = select(best[i] > x[i, k] or ..., index[i], k)

    Parameters
    ----------
    function
        With blocks, as Relax lowers operators.
    results
        Numbers of the parameters that hold results.

    Returns
    -------
    dict
        By number of the result.
    """
    params = list(function.params)
    indices: dict[Any, ChosenIndex] = {}

    def visit(block: Any) -> None:
        if block.init is not None:
            indices.update(_reduced(block, params))
        for store in nodes(block.body, tirx.BufferStore):
            value = store.value
            while isinstance(value, prim.Cast):
                value = value.value
            if isinstance(value, TensorLoad) and buffer_of(value) in indices:
                indices[store.buffer] = indices[buffer_of(value)]

    tvm_ffi.structural_walk(function.body, [(SBlock, visit)])
    return {number: indices[params[number]] for number in results if params[number] in indices}


def _reduced(block: Any, params: list[Any]) -> dict[Any, ChosenIndex]:
    reduced = [v.var for v in block.iter_vars if v.iter_type == tirx.IterVar.CommReduce]
    if len(reduced) != 1:
        return {}
    (variable,) = reduced
    sources = {
        ChosenIndex(values=params.index(buffer_of(load)), axis=list(load.indices).index(variable))
        for load in loads(block.body)
        if buffer_of(load) in params and variable in list(load.indices)
    }
    if len(sources) != 1:
        return {}
    bound = {bind.var: bind.value for bind in nodes(block.body, tirx.Bind)}
    (source,) = sources
    return {
        store.buffer: source
        for store in nodes(block.body, tirx.BufferStore)
        if _keeps_or_takes(bound.get(store.value, store.value), store.buffer, variable)
    }


def _keeps_or_takes(value: Any, buffer: Any, variable: Any) -> bool:
    if not isinstance(value, prim.Select):
        return False
    arms = [value.true_value, value.false_value]
    takes = [arm for arm in arms if arm.same_as(variable)]
    keeps = [arm for arm in arms if isinstance(arm, TensorLoad) and buffer_of(arm).same_as(buffer)]
    return len(takes) == 1 and len(keeps) == 1
