"""How far a result may be from an oracle of which some values were never written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.tolerance import Tolerance


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenTolerance(Tolerance):
    """Another tolerance, which says nothing about some values.

    Parameters
    ----------
    inner
        What the other values are held to.
    unwritten
        Bool, of the oracle's shape: the values that are not judged.
    origin
        Where the numbers come from, and what is left out.
    """

    inner: Tolerance
    unwritten: Array
    origin: str

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return what ``inner`` does."""
        return self.inner.distance(oracle, actual)

    def allowed(self, oracle: Array) -> Array:
        """Return what ``inner`` does, and NaN where the oracle was never written."""
        return np.where(self.unwritten, np.nan, self.inner.allowed(oracle))

    def check(self, oracle: Array) -> None:
        """Raise ``ValueError`` if this is no tolerance for an oracle of its shape."""
        self.inner.check(oracle)


def only_written(inner: Tolerance, unwritten: Array) -> Tolerance:
    """Return a tolerance that leaves out what the source never writes."""
    count = int(np.count_nonzero(unwritten))
    origin = f"{inner.origin}; {count} values are not judged, since the source never writes them"
    return WrittenTolerance(inner=inner, unwritten=unwritten, origin=origin)
