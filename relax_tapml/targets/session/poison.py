"""A pattern that fills memory before kernels run, to detect what they never write."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from relax_tapml.arrays import Array

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
        Selects the pattern; drawn for each replay, so that no kernel matches it twice by chance.
    is_inverted
        Whether every bit is inverted. A value that holds the pattern both times was not written,
        also where the type has so few values that one pattern alone is no evidence.
    """

    seed: int
    is_inverted: bool = False

    @classmethod
    def draw(cls) -> Poison:
        """Return a random one."""
        return cls(seed=secrets.randbits(32))

    @property
    def inverted(self) -> Poison:
        """The same with every bit inverted."""
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
