"""The root of the mean squared difference."""

from __future__ import annotations

import math

import numpy as np

from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric
from relax_tapml.compare.metrics.norm import norm


class Rmse(Metric):
    """``sqrt(mean(distance**2))`` of the values that count; 0 where none does."""

    name = "rmse"

    def __init__(self) -> None:
        self._norm = 0.0
        self._count = 0

    def add(self, block: Block) -> None:
        counted = block.counted
        self._count += block.oracle.size if counted is None else int(np.count_nonzero(counted))
        if not block.is_identical:
            self._norm = math.hypot(self._norm, norm(block.distance))

    def join(self, later: Rmse) -> None:
        self._norm = math.hypot(self._norm, later._norm)
        self._count += later._count

    @property
    def value(self) -> float:
        return self._norm / math.sqrt(self._count) if self._count else 0.0
