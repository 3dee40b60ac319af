"""The largest difference in units in the last place."""

from __future__ import annotations

from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric
from relax_tapml.compare.metrics.ulp import ulp_distance


class MaxUlp(Metric):
    """The largest ``ulp_distance`` of two values that count; 0 where none does."""

    name = "max_ulp"
    is_for_integers = False

    def __init__(self) -> None:
        self._largest = 0

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if block.is_identical:
            return
        oracle, actual = block.oracle.reshape(-1), block.actual.reshape(-1)
        if block.counted is not None:
            oracle, actual = oracle[block.counted], actual[block.counted]
        self._largest = max(self._largest, int(ulp_distance(oracle, actual).max(initial=0)))

    @property
    def value(self) -> int:
        """The metric of all blocks so far."""
        return self._largest
