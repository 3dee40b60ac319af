"""Two builds timed in turns, and whether one is slower: by ratios, because machines are shared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from relax_tapml.results.build_comparison import Pace

Turn = Callable[[], float]
"""Does a round of calls, and returns how long one takes, in seconds."""

Round = tuple[float, float]
"""One call of the first build, and of the second, measured one after the other."""

_LEAST_ROUNDS = 15
# What the VM takes for a call differs so much from process to process.
_LEAST_S = 5e-7
# The chance that, of all units of two equal builds, one has a ratio that its spread excludes.
_CHANCE = 0.01


def rounds_for(units: int) -> int:
    """Return how many rounds each unit needs, of so many that are measured."""
    return max(_LEAST_ROUNDS, math.ceil(1 + math.log2(max(1, units) / _CHANCE)))


def in_turns(first: Turn, second: Turn, rounds: int) -> list[Round]:
    """Measure two builds in turns; which one begins changes, so that a drift hits both alike."""
    found: list[Round] = []
    for number in range(rounds):
        if number % 2:
            late = second()
            found.append((first(), late))
        else:
            early = first()
            found.append((early, second()))
    return found


def ratios(rounds: Sequence[Round]) -> list[float]:
    """Return how much longer the second build takes, round by round, in order of size."""
    return sorted(second / max(first, 1e-12) for first, second in rounds)


def spread(rounds: Sequence[Round], units: int) -> tuple[float, float]:
    """Return bounds of the true median of the ratios, by their order alone.

    Nothing is assumed of how times are distributed: the median of independent rounds lies outside
    of the k-th smallest and the k-th largest with the chance of so many heads or tails.

    Parameters
    ----------
    rounds
        Of one unit.
    units
        How many are looked at; the chance that one of all lies outside is 1 %.
    """
    found = ratios(rounds)
    count = len(found)
    allowed, chance, k = _CHANCE / max(1, units), 0.0, 0
    while 2 * (chance + math.comb(count, k) / 2**count) <= allowed:
        chance += math.comb(count, k) / 2**count
        k += 1
    if k == 0:  # Too few rounds to say anything.
        return 0.0, math.inf
    return found[k - 1], found[count - k]


def pace_of(rounds: Sequence[Round], units: int, threshold: float) -> Pace:
    """Return whether the second build is slower or faster: beyond the threshold and the spread.

    Parameters
    ----------
    rounds, units
        As for ``spread``.
    threshold
        By which share of the first build's time: 0.1 is 10 %. What is faster needs the inverse
        ratio, so that exchanging the builds exchanges the answer. Less than half a microsecond of
        a call never counts.
    """
    if abs(statistics.median(second - first for first, second in rounds)) < _LEAST_S:
        return Pace.UNCHANGED
    low, high = spread(rounds, units)
    ratio = statistics.median(ratios(rounds))
    if low > 1.0 and ratio > 1.0 + threshold:
        return Pace.SLOWER
    if high < 1.0 and ratio < 1.0 / (1.0 + threshold):
        return Pace.FASTER
    return Pace.UNCHANGED
