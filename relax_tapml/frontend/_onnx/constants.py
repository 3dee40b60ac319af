"""Values of Relax constants."""

from __future__ import annotations

from typing import Any

import numpy as np

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
