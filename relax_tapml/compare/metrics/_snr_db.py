"""The ratio of signal and noise."""

from __future__ import annotations

import math

from relax_tapml.compare.metrics._plain_blocks import PlainBlocks
from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric
from relax_tapml.compare.metrics.norm import norm


class SnrDb(Metric):
    """``20 log10(|oracle| / |actual - oracle|)`` of the values that count, in decibels."""

    name = "snr_db"
    is_for_integers = False

    def __init__(self) -> None:
        self._plain = PlainBlocks()
        self._signal = 0.0
        self._noise = 0.0

    def add(self, block: Block) -> None:
        for one in self._plain.due(block):
            self._add(one)

    def _add(self, block: Block) -> None:
        self._signal = math.hypot(self._signal, norm(block.signal, block.squares))
        if not block.is_identical:
            self._noise = math.hypot(self._noise, norm(block.distance))

    def join(self, later: SnrDb) -> None:
        for one in self._plain.join(later._plain):
            self._add(one)
        self._signal = math.hypot(self._signal, later._signal)
        self._noise = math.hypot(self._noise, later._noise)

    @property
    def value(self) -> float | None:
        """The metric of all blocks so far; infinite without noise, or else -infinite for zeros.

        None where the signal or the noise is too large for a float64.
        """
        if math.isinf(self._signal) or math.isinf(self._noise):
            return None
        if self._noise == 0.0:
            return math.inf
        if self._signal == 0.0:
            return -math.inf
        return 20.0 * (math.log10(self._signal) - math.log10(self._noise))
