"""The largest difference relative to the oracle."""

from __future__ import annotations

import numpy as np

from relax_tapml.compare.block import Block


class MaxRel:
    """The largest ``distance / |oracle|`` of values that count where the oracle is not zero."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if block.is_identical:
            return
        magnitude = np.abs(block.signal)
        with np.errstate(over="ignore", invalid="ignore"):
            # Few values exceed the largest ratio so far, and only those are divided.
            is_larger = block.distance > self.value * magnitude
            is_larger &= magnitude > 0
            if is_larger.any():
                ratios = block.distance[is_larger] / magnitude[is_larger]
                self.value = max(self.value, float(ratios.max()))
