"""A tolerance with several oracles, each of which is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from relax_tapml.arrays import Array, is_float, is_same_value
from relax_tapml.compare.tolerances.difference import absolute_difference
from relax_tapml.compare.tolerances.elements import ElementTolerance, rounded_up
from relax_tapml.compare.tolerances.stored import (
    ReadTensor,
    Shape,
    StoredTolerance,
    Tensors,
    TensorWriter,
)
from relax_tapml.compare.tolerances.tolerance import StorableTolerance, Tolerance


@dataclass(frozen=True, kw_only=True, eq=False)
class ChoiceTolerance(StorableTolerance):
    """Each value may be near any of several oracles, for example if equal scores choose rows.

    Parameters
    ----------
    base
        The tolerance for the nearest of them.
    alternatives
        The other oracles: of the oracle's dtype, with one axis more, the first.
    origin
        One sentence for reports: why several answers are right.
    """

    base: Tolerance
    alternatives: Array
    origin: str
    kind: ClassVar[str] = "choices"
    stored: ClassVar[tuple[str, ...]] = ("bound", "alternatives")

    def nearest(self, oracle: Array, actual: Array) -> Array:
        """Return the oracle, with the nearest alternative where the result is wrong for the oracle.

        Where the result is wrong for all of them, the oracle's value is kept.
        """
        self.check(oracle)
        if oracle.shape != actual.shape or oracle.dtype != actual.dtype:
            return oracle
        found = oracle.copy()
        allowed = np.asarray(self.base.allowed(oracle))
        best = _apart(oracle, actual)
        best[best <= allowed] = 0.0
        for other in self.alternatives:
            apart = _apart(other, actual)
            is_better = (apart <= allowed) & (apart < best)
            found[is_better], best[is_better] = other[is_better], apart[is_better]
        return found

    @property
    def of_nearest(self) -> Tolerance:
        return self.base

    def ties(self, oracle: Array, nearest: Array, actual: Array, mismatches: int) -> int:
        return int(np.count_nonzero(~is_same_value(nearest, oracle)))

    def distance(self, oracle: Array, actual: Array) -> Array:
        return self.base.distance(self.nearest(oracle, actual), actual)

    def allowed(self, oracle: Array) -> Array:
        return self.base.allowed(oracle)

    def check(self, oracle: Array) -> None:
        self.base.check(oracle)
        if self.alternatives.shape[1:] != oracle.shape:
            raise ValueError(
                f"expected alternatives for each value of {list(oracle.shape)}, "
                f"got {list(self.alternatives.shape[1:])}"
            )

    def store(self, write: TensorWriter, inputs: Sequence[Array]) -> StoredTolerance:
        bound = self.base.allowed(self.alternatives[0])
        return StoredTolerance(
            kind=self.kind,
            origin=self.origin,
            bound=write.bound(rounded_up(bound, self.alternatives.dtype)),
            alternatives=write.oracle(self.alternatives),
        )

    @classmethod
    def read(cls, stored: StoredTolerance, tensor: ReadTensor, inputs: Sequence[str]) -> Self:
        bound, others = (tensor(stored.tensors[name]) for name in cls.stored)
        base = ElementTolerance(bound=bound, origin=stored.origin)
        return cls(base=base, alternatives=others, origin=stored.origin)

    @classmethod
    def check_stored(
        cls, stored: StoredTolerance, shape: Shape, *, inputs: Sequence[Shape], tensors: Tensors
    ) -> None:
        *bounds, (_, extents) = tensors
        if extents[1:] != shape:
            raise ValueError(
                f"expected other oracles of shape {list(shape)} each, got {list(extents)}"
            )
        super().check_stored(stored, shape, inputs=inputs, tensors=bounds)


def _apart(oracle: Array, actual: Array) -> Array:
    """Return the distance, 0 where both are the same, infinite where only one is finite."""
    apart = np.atleast_1d(absolute_difference(oracle, actual)).reshape(oracle.shape)
    if is_float(oracle.dtype):
        is_same = is_same_value(oracle, actual)
        apart = np.where(is_same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    return np.array(apart, np.float64)
