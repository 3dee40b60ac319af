"""Elementary functions that a platform computes less accurately than others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LowPrecisionMath:
    """Functions for which a suite's wider bounds count, beside the usual ones.

    Parameters
    ----------
    names
        Names of TIR operators, without the part before the dot: ``tanh``.
    reason
        Which standard allows it or which compiler option causes it, and how to turn it off.
    """

    names: frozenset[str]
    reason: str
