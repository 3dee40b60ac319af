"""A logarithmic axis over whole decades."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_DECADES = 12


@dataclass(frozen=True, kw_only=True)
class LogScale:
    """Positions between ``10**low`` (0) and ``10**high`` (1); ``low < high``."""

    low: int
    high: int

    @classmethod
    def spanning(cls, values: Iterable[float | None]) -> LogScale:
        """Return a scale up to the largest positive finite value, of at most twelve decades.

        Smaller values lie at 0: one tolerance of 1e-38 must not squeeze all others together.
        """
        usable = [v for v in values if v is not None and math.isfinite(v) and v > 0]
        if not usable:
            return cls(low=-1, high=0)
        # 1e308 is the last decade a float holds.
        high = min(math.ceil(math.log10(max(usable))), 308)
        low = math.floor(math.log10(min(usable)))
        return cls(low=min(max(low, high - _DECADES), high - 1), high=high)

    def position(self, value: float) -> float:
        """Return where ``value`` lies; zero and NaN lie at 0, infinity at 1."""
        if math.isnan(value) or value <= 0:
            return 0.0
        if math.isinf(value):
            return 1.0
        place = (math.log10(value) - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)

    def decades(self, at_most: int) -> list[float]:
        """Return powers of ten on the scale, evenly chosen, no more than ``at_most``."""
        step = math.ceil((self.high - self.low + 1) / at_most)
        return [10.0**k for k in range(self.low, self.high + 1, step)]
