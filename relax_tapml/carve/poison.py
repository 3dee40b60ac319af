"""What memory holds before a kernel runs, so that what it never wrote can be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.compare.dtypes import is_float
from relax_tapml.frontend.model import Array
from relax_tapml.targets.poison import Poison

GUARD_BYTES = 1 << 14
"""Bytes behind an output that are looked at after the call."""


@dataclass(frozen=True, kw_only=True)
class PoisonedBlock:
    """Memory that holds the pattern, again and again, before a call: a tensor, then a guard.

    Parameters
    ----------
    output
        Which output of the call lies at its beginning; None for an intermediate result.
    tensor_bytes
        Where the guard begins.
    pattern_bytes
        How long the pattern is.
    """

    output: int | None
    tensor_bytes: int
    pattern_bytes: int

    @property
    def copies(self) -> int:
        """How often the pattern is repeated; then the block ends."""
        return math.ceil((self.tensor_bytes + GUARD_BYTES) / self.pattern_bytes)

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole block."""
        return self.copies * self.pattern_bytes

    def overrun(self, guard: Array, poison: Poison) -> str:
        """Say in a sentence what was written behind the tensor, as the guard shows; or nothing."""
        places = np.arange(self.tensor_bytes, self.tensor_bytes + GUARD_BYTES)
        expected = poison.pattern(self.pattern_bytes)[places % self.pattern_bytes]
        changed = np.flatnonzero(guard != expected)
        if not changed.size:
            return ""
        reach = int(changed[-1]) + 1
        what = "an intermediate result" if self.output is None else f"its output {self.output}"
        return (
            f"it writes behind the end of {what}: {changed.size} bytes differ "
            f"there, the last one {reach} bytes behind it"
        )

    def untouched(self, actual: Array, poison: Poison) -> Array | None:
        """Return which values of an output are still what the memory held; None if none is."""
        if not actual.size:
            return None
        values = np.ascontiguousarray(actual).reshape(-1).view(f"u{actual.dtype.itemsize}")
        expected = np.resize(poison.pattern(self.pattern_bytes), actual.nbytes)
        held = np.asarray(values == expected.view(values.dtype)).reshape(actual.shape)
        return held if held.any() else None


def is_certain(actual: Array) -> bool:
    """Whether no kernel writes the pattern by chance to an array of this dtype."""
    return is_float(actual.dtype) and actual.dtype.itemsize > 1


def unwritten_text(output: int, mask: Array, poison: Poison) -> str:
    """Say in a sentence which values of an output were never written."""
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


def pattern_sizes(blocks: Sequence[PoisonedBlock]) -> tuple[int, ...]:
    """Return the sizes of the patterns that fill some blocks, each once."""
    return tuple(sorted({block.pattern_bytes for block in blocks}))
