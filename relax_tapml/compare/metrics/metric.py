"""The base class of metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from relax_tapml.compare.metrics.block import Block

Measure = float | int | dict[str, int] | None
"""The value of a metric: a number, or counts by name; None where it has no value."""


class Metric(ABC):
    """One measure of how far a result is from its oracle; each subclass is one file.

    It is made for one comparison, gets every block of it once, in order, and then has a value. All
    metrics are in ``Comparison.metrics``, in the results and in what is printed.
    """

    name: ClassVar[str]
    """The name in results, with the unit if there is one."""

    is_for_integers: ClassVar[bool] = True
    """Whether it has a value for integers and bool, where distances are those of the tolerance."""

    @abstractmethod
    def add(self, block: Block) -> None:
        """Take a block into account."""

    @property
    @abstractmethod
    def value(self) -> Measure:
        """The metric of all blocks so far."""
