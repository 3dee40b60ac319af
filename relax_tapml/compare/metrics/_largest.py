"""The largest difference: absolute, relative to the oracle, and in units in the last place."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.metric import Metric
from relax_tapml.compare.metrics.ulp import ulp_distance


class _Largest(Metric):
    """The largest of some number of all values that count; 0 where none does."""

    def __init__(self) -> None:
        self._largest: float | int = 0

    def add(self, block: Block) -> None:
        if not block.is_identical:
            self._largest = max(self._largest, self._largest_in(block))

    def join(self, later: _Largest) -> None:
        self._largest = max(self._largest, later._largest)

    @abstractmethod
    def _largest_in(self, block: Block) -> float | int:
        """Return the number of a block with differences."""

    @property
    def value(self) -> float | int:
        return self._largest


class MaxAbs(_Largest):
    """The largest distance of two values that count; 0 where none does."""

    name = "max_abs"

    def _largest_in(self, block: Block) -> float:
        return float(block.distance.max(initial=0.0))


class MaxRel(_Largest):
    """The largest ``distance / |oracle|`` of values that count where the oracle is not zero."""

    name = "max_rel"
    is_for_integers = False

    def _largest_in(self, block: Block) -> float:
        magnitude = np.abs(block.signal)
        with np.errstate(over="ignore", invalid="ignore"):
            # Few values exceed the largest ratio so far, and only those are divided.
            is_larger = block.distance > self._largest * magnitude
            is_larger &= magnitude > 0
            return float((block.distance[is_larger] / magnitude[is_larger]).max(initial=0.0))


class MaxUlp(_Largest):
    """The largest ``ulp_distance`` of two values that count; 0 where none does."""

    name = "max_ulp"
    is_for_integers = False

    def _largest_in(self, block: Block) -> int:
        oracle, actual = block.oracle.reshape(-1), block.actual.reshape(-1)
        if block.counted is not None:
            oracle, actual = oracle[block.counted], actual[block.counted]
        return int(ulp_distance(oracle, actual).max(initial=0))
