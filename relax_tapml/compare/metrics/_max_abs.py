"""The largest absolute difference."""

from __future__ import annotations

from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric


class MaxAbs(Metric):
    """The largest distance of two values that count; 0 where none does."""

    name = "max_abs"

    def __init__(self) -> None:
        self._largest = 0.0

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if not block.is_identical:
            self._largest = max(self._largest, float(block.distance.max(initial=0.0)))

    @property
    def value(self) -> float:
        """The metric of all blocks so far."""
        return self._largest
