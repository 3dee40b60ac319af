"""Values of Relax constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from relax_tapml._compat import Constant, constant_tensor
from relax_tapml.arrays import Array


def array_of(constant: Any) -> Array:
    """Return the value of a constant."""
    return np.asarray(constant_tensor(constant).numpy())


def number_list(value: Any, what: str) -> list[int]:
    """Return the numbers of a constant. Raises ``ValueError`` for anything else."""
    if not isinstance(value, Constant):
        raise ValueError(f"{what} must be constant")
    return [int(number) for number in array_of(value).reshape(-1)]


def dims_of(value: Any, what: str) -> list[Any]:
    """Return the numbers of a constant, or the dimensions of a shape, numbers or expressions.

    Raises ``ValueError`` for anything else.
    """
    if isinstance(value, relax.ShapeExpr):
        return list(value.values)
    if not isinstance(value, Constant):
        raise ValueError(f"{what} is computed when the model runs")
    return number_list(value, what)
