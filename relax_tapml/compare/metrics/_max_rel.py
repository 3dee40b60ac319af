"""The largest difference relative to the oracle."""

from __future__ import annotations

import numpy as np

from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric


class MaxRel(Metric):
    """The largest ``distance / |oracle|`` of values that count where the oracle is not zero."""

    name = "max_rel"
    is_for_integers = False

    def __init__(self) -> None:
        self._largest = 0.0

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if block.is_identical:
            return
        magnitude = np.abs(block.signal)
        with np.errstate(over="ignore", invalid="ignore"):
            # Few values exceed the largest ratio so far, and only those are divided.
            is_larger = block.distance > self._largest * magnitude
            is_larger &= magnitude > 0
            if is_larger.any():
                ratios = block.distance[is_larger] / magnitude[is_larger]
                self._largest = max(self._largest, float(ratios.max()))

    @property
    def value(self) -> float:
        """The metric of all blocks so far."""
        return self._largest
