"""Elementary functions that a platform computes less accurately than others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LowPrecisionMath:
    """Functions that are allowed the coarse bounds of a suite, beside the usual ones.

    Parameters
    ----------
    names
        Of operators of TIR, without what stands before the dot: ``tanh``.
    reason
        Who allows it, or which option of a compiler causes it, and how it is turned off.
    """

    names: frozenset[str]
    reason: str
