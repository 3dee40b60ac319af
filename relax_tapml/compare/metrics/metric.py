"""The base class of metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from relax_tapml.compare.metrics.block import Block

Measure = float | int | dict[str, int] | None
"""The value of a metric: a number, or counts by name; None where it has no value."""


class Metric(ABC):
    """One measure of how far a result is from its oracle; each subclass is one file.

    It is made for one comparison, gets every block of it once, in order, and then has a value. All
    metrics are in ``Comparison.metrics``, in the results and in what is printed. Of a large tensor
    one is made for each of several parts, if it can ``join`` what these find.
    """

    name: ClassVar[str]
    """The name in results, with the unit if there is one."""

    is_for_integers: ClassVar[bool] = True
    """Whether it has a value for integers and bool, where distances are those of the tolerance."""

    @abstractmethod
    def add(self, block: Block) -> None:
        """Take a block into account."""

    def join(self, later: Self) -> None:
        """Take into account what another one has found in the blocks that follow.

        By default it cannot: then one metric gets all blocks, which takes longer.
        """
        raise NotImplementedError

    @classmethod
    def can_join(cls) -> bool:
        """Return whether there is a ``join``."""
        return cls.join is not Metric.join

    @property
    @abstractmethod
    def value(self) -> Measure:
        """The metric of all blocks so far."""
