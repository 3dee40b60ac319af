"""Run what may be flaky more than once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from relax_tapml.compare.verdict import Verdict

ROUNDS = 10
"""How often what has once failed and once passed is run in all."""

SETTLED = (
    *(Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.SKIPPED),
    *(Verdict.BUILD_ERROR, Verdict.TIMEOUT),
)
"""What is not run again to be sure: it would end the same way, or take too long."""


class Ended(Protocol):
    """Something that ended with a verdict."""

    @property
    def verdict(self) -> Verdict:
        """How it ended."""


_Ended = TypeVar("_Ended", bound=Ended)


def repeated(run: Callable[[], _Ended], times: int) -> list[_Ended]:
    """Run something ``times`` times; once more if it fails, and ``ROUNDS`` times if that differs.

    What fails would be accused, so it is run again to tell wrong from flaky, even where nobody
    asked for more than one run. A timeout then is not, since it takes so long.

    Parameters
    ----------
    run
        Ends with a verdict.
    times
        At least 1.

    Returns
    -------
    list
        What each round ended with, in order.
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
    """Whether a verdict accuses somebody."""
    return verdict not in (Verdict.PASS, Verdict.SKIPPED)
