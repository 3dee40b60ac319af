"""How many values are at the limit of their dtype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from relax_tapml.arrays import Array, finfo, is_float
from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric


class Saturation(Metric):
    """How many values are finite and at the dtype's limit, judged or not, in oracle and result.

    The lowest value of an unsigned type, 0, does not count as a limit, and bool has no limits.
    """

    name = "saturation"

    def __init__(self) -> None:
        self._expected = 0
        self._actual = 0

    def add(self, block: Block) -> None:
        if block.is_identical and not block.is_saturated:
            return
        expected = _count(block.oracle, block.wide_oracle)
        self._expected += expected
        self._actual += expected if block.is_identical else _count(block.actual, block.wide_actual)

    def join(self, later: Saturation) -> None:
        self._expected += later._expected
        self._actual += later._actual

    @property
    def value(self) -> dict[str, int]:
        return {"expected": self._expected, "actual": self._actual}


def _count(values: Array, wide: Array) -> int:
    low, high = _limits(values.dtype)
    if high is None or not values.size:
        return 0
    # float64 cannot tell the limit of 64-bit integers from its neighbours.
    compared = values if values.dtype.kind in "iu" else wide
    # A NaN makes both comparisons false, so arrays with a NaN are counted value by value.
    if compared.max() < high and (low is None or compared.min() > low):
        return 0
    count = int(np.count_nonzero(compared == high))
    return count if low is None else count + int(np.count_nonzero(compared == low))


def _limits(dtype: np.dtype[Any]) -> tuple[float | int | None, float | int | None]:
    if dtype.kind == "b":
        return None, None
    if is_float(dtype):
        info = finfo(dtype)
        low = float(info.min)
        return (low if low < 0 else None), float(info.max)
    integer = ml_dtypes.iinfo(dtype)
    return (int(integer.min) if integer.min < 0 else None), int(integer.max)
