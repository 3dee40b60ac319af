"""How far one result may be from its oracle, in numbers: what a tolerance is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from relax_tapml.arrays import Array, is_integer
from relax_tapml.compare.tolerances.elements import ElementTolerance, with_low_precision
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive._sampled import Sampled
from relax_tapml.derive.error_bounds import equal_values, excess_text


@dataclass(frozen=True, kw_only=True)
class ResultBounds:
    """The bounds of the elements of a result, or of a block of it.

    Parameters
    ----------
    bound, excess
        As ``kept_error_bounds`` returns them.
    samples
        Of each product that the kernel computes, what was followed for a sample only.
    low_precision
        The bounds for devices with low-precision functions; None if they are the same.
    unjudged
        Why nothing is judged on such devices; empty where something is.
    """

    bound: Array
    excess: float
    samples: tuple[Sampled, ...] = ()
    low_precision: Array | None = None
    unjudged: str = ""

    @classmethod
    def joined(
        cls, parts: Sequence[ResultBounds], bound: Array, low_precision: Array | None
    ) -> ResultBounds:
        """Return the bounds of a result from those of its blocks, whose arrays are joined."""
        count = max(len(part.samples) for part in parts)
        return cls(
            bound=bound,
            excess=max(part.excess for part in parts),
            samples=tuple(
                Sampled.joined([part.samples[n] for part in parts if n < len(part.samples)])
                for n in range(count)
            ),
            low_precision=low_precision,
            unjudged=next((part.unjudged for part in parts if part.unjudged), ""),
        )

    def unknown(self) -> ResultBounds:
        """Return bounds of the same elements, none of which is judged."""
        return replace(self, bound=np.full_like(self.bound, np.nan))

    def tolerance(self, oracle: Array, origin: str) -> Tolerance:
        """Return the tolerance.

        Parameters
        ----------
        oracle
            Of the same shape.
        origin
            What the errors come from.
        """
        notes = dict.fromkeys(sampled.text for sampled in self.samples)
        text = "; ".join([origin, *filter(None, notes)]) + excess_text(self.excess)
        found: Tolerance = ElementTolerance(bound=self.bound, origin=text)
        if is_integer(oracle.dtype) and not self.bound.astype(np.bool_).any():
            found = equal_values(oracle.dtype)
        low = self.low_precision
        if low is None or (is_integer(oracle.dtype) and not low.astype(np.bool_).any()):
            return found
        if self.unjudged:
            found = replace(found, origin=f"{found.origin}; {self.unjudged}")  # type: ignore[type-var]
        return with_low_precision(found, ElementTolerance(bound=low, origin=""))
