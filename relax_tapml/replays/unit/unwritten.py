"""Values of outputs that a call never wrote: they are what its memory held before."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array, is_float
from relax_tapml.targets.session.poison import Poison


def is_certain(actual: Array) -> bool:
    """Whether no kernel writes the pattern by chance to an array of this dtype."""
    return is_float(actual.dtype) and actual.dtype.itemsize > 1


def unwritten_text(output: int, mask: Array, poison: Poison) -> str:
    """Return a sentence about which values of an output were never written."""
    first = [int(place) for place in np.unravel_index(int(mask.argmax()), mask.shape)]
    count = int(np.count_nonzero(mask))
    return (
        f"{count} of {mask.size} values of its output {output} were never written, first at "
        f"{first}: they are what its memory held before the call (seed {poison.seed})"
    )


def both(mask: Array | None, other: Array | None) -> Array | None:
    """Return what two masks have in common; None if that is nothing."""
    if mask is None or other is None:
        return None
    common = mask & other
    return common if common.any() else None


def without(mask: Array | None, known: Array | None) -> Array | None:
    """Return a mask without the values of another; None if nothing is left."""
    if mask is None or known is None:
        return mask
    left = mask & ~known
    return left if left.any() else None
