"""Which values are not finite, on both sides."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric


class NonFinite(Metric):
    """How many values are NaN or infinite, in oracle and result, whether they are judged or not."""

    name = "nonfinite"

    def __init__(self) -> None:
        self._counts = [0, 0, 0, 0]

    def add(self, block: Block) -> None:
        if block.is_finite:
            return
        found = (*_count(block.wide_oracle), *_count(block.wide_actual))
        self._counts = [so_far + more for so_far, more in zip(self._counts, found, strict=True)]

    def join(self, later: NonFinite) -> None:
        self._counts = [a + b for a, b in zip(self._counts, later._counts, strict=True)]

    @property
    def value(self) -> dict[str, int]:
        names = ("expected_nan", "expected_inf", "actual_nan", "actual_inf")
        return dict(zip(names, self._counts, strict=True))


def _count(values: Array) -> tuple[int, int]:
    return int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(np.isinf(values)))
