"""The operands of a product of two tensors, as batches of matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.arrays import Array, finfo
from relax_tapml.derive._pieces import Operand, Product
from relax_tapml.derive._precision import INPUT_PERTURBATION
from relax_tapml.kernel_flow.integer_values import integer_values


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A tensor that a product reads.

    Parameters
    ----------
    values
        As the kernel gets them, or float64 where the kernel computes them.
    errors
        How far each value may be off, float64; None for the last place of an input, or for nothing
        where the inputs are the same bits everywhere.
    is_input
        Whether ``values`` are an argument of the kernel.
    """

    values: Array
    errors: Array | None = None
    is_input: bool = True


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which loop variables are batches, rows, columns, and summed over."""

    batch: tuple[Any, ...]
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    reduced: tuple[Any, ...]
    extents: Mapping[Any, int]

    @classmethod
    def of(cls, product: Product, extents: Mapping[Any, int]) -> Layout:
        """Return the layout of a product, by the extents of its loop variables."""
        left, right = (operand.variables for operand in product.operands)
        kept = [v for v in product.extents if v not in set(product.reduced)]
        return cls(
            batch=tuple(v for v in kept if v in left and v in right),
            rows=tuple(v for v in kept if v in left and v not in right),
            columns=tuple(v for v in kept if v in right and v not in left),
            reduced=product.reduced,
            extents=extents,
        )

    def sizes(self, variables: Sequence[Any]) -> list[int]:
        """Return the extents of loop variables."""
        return [self.extents[variable] for variable in variables]

    def placed(self, array: Array, product: Product, shape: Sequence[int]) -> Array:
        """Return batches of rows and columns as the product stores them."""
        order = [*self.batch, *self.rows, *self.columns]
        split = array.reshape(self.sizes(order))
        stored = [index for index in product.indices if isinstance(index, tirx.Var)]
        return np.ascontiguousarray(split.transpose([order.index(v) for v in stored])).reshape(
            shape
        )


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A factor as batches of rows: ``[batch, rows, terms]``, perhaps a view.

    Parameters
    ----------
    values, errors, is_input
        As of ``Factor``.
    """

    values: Array
    errors: Array | None
    is_input: bool

    @classmethod
    def of(cls, operand: Operand, factor: Factor, layout: Layout, kept: Sequence[Any]) -> Matrix:
        """Return the matrices of an operand, whose rows are the ``kept`` variables."""
        order = [*layout.batch, *kept, *layout.reduced]
        shape = [math.prod(layout.sizes(part)) for part in (layout.batch, kept, layout.reduced)]

        def arranged(array: Array) -> Array:
            return _gathered(array, operand, order, layout.extents).reshape(shape)

        return cls(
            values=arranged(factor.values),
            errors=None if factor.errors is None else arranged(factor.errors),
            is_input=factor.is_input,
        )

    @property
    def step(self) -> float:
        """The relative error of values whose errors are not given."""
        if self.errors is not None or not self.is_input:
            return 0.0
        return min(INPUT_PERTURBATION, float(finfo(self.values.dtype).eps))


def _gathered(
    array: Array, operand: Operand, order: Sequence[Any], extents: Mapping[Any, int]
) -> Array:
    """Return the elements that an operand takes, one axis for each variable in order."""
    indices = operand.indices
    variables = [index for index in indices if isinstance(index, tirx.Var)]
    is_plain = len(set(variables)) == len(variables) and all(
        isinstance(index, tirx.Var | prim.IntImm) for index in indices
    )
    if is_plain:
        part = array[
            tuple(
                slice(0, extents[i]) if isinstance(i, tirx.Var) else int(i.value) for i in indices
            )
        ]
        return part.transpose([variables.index(variable) for variable in order])
    grids = {
        variable: np.arange(extents[variable], dtype=np.int64).reshape(
            [-1 if n == place else 1 for n in range(len(order))]
        )
        for place, variable in enumerate(order)
    }
    places = [integer_values(index, grids, _no_load) for index in indices]
    return np.asarray(array[tuple(np.broadcast_arrays(*places))])


def _no_load(_load: Any, _indices: list[Array]) -> Array:
    raise AssertionError("indices of operands load nothing")
