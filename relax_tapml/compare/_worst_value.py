"""The value with the largest share of its tolerance."""

from __future__ import annotations

import math

import numpy as np

from relax_tapml.compare.metrics.block import Block


class WorstValue:
    """Distance and allowance where their ratio is largest, the first of several.

    Attributes
    ----------
    distance
        0 where no value counts.
    allowed
        NaN where no value counts.
    ratio
        ``distance / allowed``; 0 for a distance of 0, infinite for another one if none is allowed.
    """

    def __init__(self) -> None:
        self.distance = 0.0
        self.allowed = math.nan
        self.ratio = 0.0

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if math.isnan(self.allowed):
            self._begin(block)
        if block.is_identical or self.ratio == math.inf:
            return
        with np.errstate(all="ignore"):
            # Few values exceed the largest ratio so far, and only those are divided.
            exceeds = block.distance > self.ratio * block.allowed
            if not exceeds.any():
                return
            distances, alloweds = block.distance[exceeds], block.allowed[exceeds]
            ratios = distances / alloweds
        ratios[np.isnan(ratios)] = 0.0  # both infinite
        found = int(ratios.argmax())
        if ratios[found] > self.ratio:
            self.distance = float(distances[found])
            self.allowed = float(alloweds[found])
            self.ratio = float(ratios[found])

    def join(self, later: WorstValue) -> None:
        """Take into account what another one has found in the blocks that follow."""
        if math.isnan(self.allowed) or later.ratio > self.ratio:
            self.distance, self.allowed, self.ratio = later.distance, later.allowed, later.ratio

    def _begin(self, block: Block) -> None:
        counted = block.counted
        if counted is None:
            self.allowed = float(block.allowed[0])
        elif counted.any():
            self.allowed = float(block.allowed[int(counted.argmax())])
