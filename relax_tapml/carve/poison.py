"""What memory holds before a kernel runs, so that what it never wrote can be seen."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from relax_tapml.compare.dtypes import is_float
from relax_tapml.frontend.model import Array

GUARD_BYTES = 1 << 14
"""Bytes behind an output that are looked at after the call."""

# Every float of two bytes and more that is made of these 16-bit units is a quiet NaN: float16,
# bfloat16, float32 and float64 alike. The lowest three bits and the sign are free; all zeros and
# all ones would be what hardware computes.
_QUIET_NAN = 0x7FF8
_SIGN = 0x8000
_PAYLOADS = 0x07


@dataclass(frozen=True, kw_only=True)
class Poison:
    """A pattern that no kernel stores by chance: NaN as floats, unlikely as whole numbers.

    Parameters
    ----------
    seed
        Says which pattern; drawn for each replay, so that no kernel matches it twice by luck.
    is_inverted
        Whether every bit is the other one. A value that holds the pattern both times was not
        written, also where the type has so few values that one pattern alone says nothing.
    """

    seed: int
    is_inverted: bool = False

    @classmethod
    def draw(cls) -> Poison:
        """Return one that nobody can foresee."""
        return cls(seed=secrets.randbits(32))

    @property
    def inverted(self) -> Poison:
        """The same with every bit the other one."""
        return replace(self, is_inverted=not self.is_inverted)

    def name(self, size_bytes: int) -> str:
        """Return a name for the pattern of a size, unique in a session."""
        return f"relax_tapml.poison.{self.seed}.{self.is_inverted}.{size_bytes}"

    def pattern(self, size_bytes: int) -> Array:
        """Return the pattern: uint8, ``size_bytes`` of them, an even number; not to be changed."""
        return _pattern(self.seed, self.is_inverted, size_bytes)


@lru_cache(maxsize=4)
def _pattern(seed: int, is_inverted: bool, size_bytes: int) -> Array:
    random = np.random.default_rng(seed)
    units = random.integers(1, _PAYLOADS, size_bytes // 2, dtype=np.uint16) | _QUIET_NAN
    units |= random.integers(0, 2, units.size, dtype=np.uint16) * np.uint16(_SIGN)
    pattern = units.astype("<u2").view(np.uint8)
    if is_inverted:
        pattern = ~pattern
    pattern.flags.writeable = False
    return pattern


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
