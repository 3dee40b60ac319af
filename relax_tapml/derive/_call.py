"""One call of a PrimFunc that is to be evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np

from relax_tapml.arrays import Array

Places = tuple[Array, ...]
"""A grid of elements of a result: for each of its axes some places, ascending."""

Recorded = Places | EllipsisType
"""Where a source computed a result: at some places, or everywhere."""

EVERYWHERE = ...


@dataclass(frozen=True, kw_only=True)
class Call:
    """The arguments of a call, and what is known of its results.

    Parameters
    ----------
    numbers
        Of the parameters that hold results.
    arguments
        Tensor arguments by number of the parameter; of results, only those written in place.
    scalars
        Numbers, by number of the parameter.
    like
        For each result an array of its dtype and shape, with the values that a source computed.
    recorded
        For each result where it did.
    """

    numbers: tuple[int, ...]
    arguments: Mapping[int, Array]
    scalars: Mapping[int, float]
    like: Sequence[Array]
    recorded: tuple[Recorded, ...]

    @property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """The shapes of arguments and results, by number of the parameter."""
        shapes = {number: array.shape for number, array in self.arguments.items()}
        return shapes | {n: a.shape for n, a in zip(self.numbers, self.like, strict=True)}

    @property
    def is_in_place(self) -> bool:
        """Whether the kernel writes to one of its arguments."""
        return not self.arguments.keys().isdisjoint(self.numbers)

    def oracles(self, values: Mapping[int, Array]) -> list[Array]:
        """Return the oracles: what a source computed, and values elsewhere, rounded.

        Parameters
        ----------
        values
            Of the float64 evaluation, by number of the parameter.
        """
        return [
            array if places is EVERYWHERE else _oracle(values[number], array, places)
            for number, array, places in zip(self.numbers, self.like, self.recorded, strict=True)
        ]


def _oracle(values: Array, array: Array, places: Places) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        oracle = values.astype(array.dtype)
    grid = np.ix_(*places)
    oracle[grid] = array[grid]
    return oracle
