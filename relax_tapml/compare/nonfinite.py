"""Which values are not finite, on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.compare.block import Block


@dataclass(frozen=True, kw_only=True)
class NonFinite:
    """How many values are NaN or infinite.

    Parameters
    ----------
    expected_nan, expected_inf
        In the oracle.
    actual_nan, actual_inf
        In the result.
    """

    expected_nan: int = 0
    expected_inf: int = 0
    actual_nan: int = 0
    actual_inf: int = 0


class NonFiniteCensus:
    """Counts the values that are not finite, whether they are judged or not."""

    def __init__(self) -> None:
        self._counts = [0, 0, 0, 0]

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if block.is_finite:
            return
        found = (*_count(block.wide_oracle), *_count(block.wide_actual))
        self._counts = [so_far + more for so_far, more in zip(self._counts, found, strict=True)]

    @property
    def value(self) -> NonFinite:
        """The counts of all blocks so far."""
        expected_nan, expected_inf, actual_nan, actual_inf = self._counts
        return NonFinite(
            expected_nan=expected_nan,
            expected_inf=expected_inf,
            actual_nan=actual_nan,
            actual_inf=actual_inf,
        )


def _count(values: Array) -> tuple[int, int]:
    return int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(np.isinf(values)))
