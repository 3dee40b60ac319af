"""A tolerance that leaves out the values of an oracle that were never written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.tolerance import Tolerance


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenTolerance(Tolerance):
    """Another tolerance, without some values.

    Parameters
    ----------
    inner
        The tolerance of the other values.
    unwritten
        Bool, of the oracle's shape: the values that are not judged.
    origin
        Where the numbers come from, and which values are left out.
    """

    inner: Tolerance
    unwritten: Array
    origin: str

    def distance(self, oracle: Array, actual: Array) -> Array:
        return self.inner.distance(oracle, actual)

    def allowed(self, oracle: Array) -> Array:
        return np.where(self.unwritten, np.nan, self.inner.allowed(oracle))

    def check(self, oracle: Array) -> None:
        self.inner.check(oracle)


def only_written(inner: Tolerance, unwritten: Array) -> Tolerance:
    """Return a tolerance without the values that the source never writes."""
    count = int(np.count_nonzero(unwritten))
    origin = f"{inner.origin}; {count} values are not judged, since the source never writes them"
    return WrittenTolerance(inner=inner, unwritten=unwritten, origin=origin)
