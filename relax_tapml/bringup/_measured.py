"""What the first run of a source shows of how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the source's first run has shown.

    Parameters
    ----------
    run_s
        Seconds of one run of all samples, without deriving weights.
    derive_s
        Seconds of deriving all weights.
    build_s, kernels_built
        Seconds of building the source's kernels, and how many were missing.
    """

    run_s: float
    derive_s: float
    build_s: float
    kernels_built: int
