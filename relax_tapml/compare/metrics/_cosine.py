"""The cosine of the angle between oracle and result."""

from __future__ import annotations

import math

from relax_tapml.compare.metrics._plain_blocks import PlainBlocks
from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric
from relax_tapml.compare.metrics.norm import dot


class Cosine(Metric):
    """``dot(oracle, actual) / (|oracle| |actual|)`` of the values that count."""

    name = "cosine"
    is_for_integers = False

    def __init__(self) -> None:
        self._plain = PlainBlocks()
        self._products = 0.0
        self._oracle_squares = 0.0
        self._actual_squares = 0.0

    def add(self, block: Block) -> None:
        for one in self._plain.due(block):
            self._add(one)

    def _add(self, block: Block) -> None:
        signal, response = block.signal, block.response
        squares = block.squares
        self._oracle_squares += squares
        self._actual_squares += squares if block.is_identical else dot(response, response)
        self._products += squares if block.is_identical else dot(signal, response)

    def join(self, later: Cosine) -> None:
        for one in self._plain.join(later._plain):
            self._add(one)
        self._oracle_squares += later._oracle_squares
        self._actual_squares += later._actual_squares
        self._products += later._products

    @property
    def value(self) -> float | None:
        """The metric of all blocks so far, from -1 to 1.

        None where there is no angle: one side is all zeros, or its squares are out of range.
        """
        if self._plain.are_all and self._plain.has_values:
            return 1.0
        lengths = math.sqrt(self._oracle_squares) * math.sqrt(self._actual_squares)
        if not (0.0 < lengths < math.inf and math.isfinite(self._products)):
            return None
        return max(-1.0, min(1.0, self._products / lengths))
