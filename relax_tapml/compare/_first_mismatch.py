"""One mismatching value, with its index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_tapml.arrays import Array, is_float
from relax_tapml.compare.metrics.ulp import max_ulp


@dataclass(frozen=True, kw_only=True)
class FirstMismatch:
    """One value that differs, as Python numbers.

    Parameters
    ----------
    index
        Its position, one number for each dimension.
    expected, actual
        In the oracle and in the result.
    ulp
        How far apart they are in units in the last place; None unless both are finite floats.
    """

    index: tuple[int, ...]
    expected: float | int | bool
    actual: float | int | bool
    ulp: int | None


def mismatch_at(place: int, oracle: Array, actual: Array) -> FirstMismatch:
    """Return the mismatch at a flat index."""
    index = tuple(int(i) for i in np.unravel_index(place, oracle.shape))
    expected, got = oracle[index], actual[index]
    is_finite = is_float(expected.dtype) and np.isfinite(expected) and np.isfinite(got)
    return FirstMismatch(
        index=index,
        expected=_number(expected),
        actual=_number(got),
        ulp=max_ulp(np.asarray(expected), np.asarray(got)) if is_finite else None,
    )


def _number(value: Any) -> float | int | bool:
    # ml_dtypes scalars have no item() that gives a Python number.
    if value.dtype.kind in "biuf":
        number: float | int | bool = value.item()
        return number
    return float(value) if is_float(value.dtype) else int(value)
