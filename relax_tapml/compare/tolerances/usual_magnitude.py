"""The usual magnitude of an oracle, the scale of its errors."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo

_GAP = 1e3
_SAMPLED = 100_000


def usual_magnitude(oracle: Array) -> float:
    """Return the median of the finite nonzero magnitudes of a float array, 0 without one.

    Mask values do not count: those at the limit of the dtype (-3.4e38), and those a factor of 1000
    above all values below them (-1e4, -1e9). In a large array, only a sample of values is used.
    """
    sample = oracle.reshape(-1)[:: max(1, oracle.size // _SAMPLED)]
    magnitudes = np.abs(as_float64(sample))
    limit = float(finfo(oracle.dtype).max) / 2
    magnitudes = np.sort(magnitudes[(magnitudes > 0) & (magnitudes < limit)])
    if magnitudes.size == 0:
        return 0.0
    # The values above a few tiny ones are not masks.
    few = magnitudes.size // 20
    gaps = np.flatnonzero(magnitudes[few + 1 :] > _GAP * magnitudes[few:-1])
    if gaps.size:
        magnitudes = magnitudes[: few + gaps[0] + 1]
    return float(np.median(magnitudes))
