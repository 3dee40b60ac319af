"""Runs a test several times if its result may be flaky."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from relax_tapml.compare.verdict import Verdict

ROUNDS = 10
"""The number of runs of a test that has failed once and passed once."""

SETTLED = (
    *(Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.SKIPPED),
    *(Verdict.BUILD_ERROR, Verdict.TIMEOUT),
)
"""Verdicts that are not confirmed by another run: it would end alike, or take too long."""


class Ended(Protocol):
    """Something that ended with a verdict."""

    @property
    def verdict(self) -> Verdict:
        """How it ended."""


_Ended = TypeVar("_Ended", bound=Ended)


def repeated(run: Callable[[], _Ended], times: int) -> list[_Ended]:
    """Run something ``times`` times; once more if it fails, and ``ROUNDS`` times if that differs.

    A single failure is confirmed by a second run, so that a flaky unit is not named as wrong, even
    if only one run was requested. A timeout is not repeated, since it takes too long.

    Parameters
    ----------
    run
        Ends with a verdict.
    times
        At least 1.

    Returns
    -------
    list
        The results of all rounds, in order.
    """
    rounds = [run()]
    if rounds[0].verdict is Verdict.BUILD_ERROR:
        return rounds
    rounds += [run() for _ in range(times - 1)]
    if times > 1 or rounds[0].verdict in SETTLED:
        return rounds
    rounds.append(run())
    if not is_failure(rounds[1].verdict):
        rounds += [run() for _ in range(ROUNDS - len(rounds))]
    return rounds


def is_failure(verdict: Verdict) -> bool:
    """Return whether a verdict means that something is wrong."""
    return verdict not in (Verdict.PASS, Verdict.SKIPPED)
