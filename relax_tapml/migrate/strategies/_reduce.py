"""The smallest set of parts that fails together."""

from __future__ import annotations

from collections.abc import Generator

from relax_tapml.migrate.strategies.strategy import Finding, Outcome, Proposal, SearchState
from relax_tapml.results.step_result import Purpose

MOST_TOGETHER = 8
"""A failing set of more parts than this is reported as far as it was found."""


def reduce(
    state: SearchState, part: str, *, step: int | None = None
) -> Generator[Proposal, Outcome, bool]:
    """Find the fewest other parts with which ``part`` fails, and put the part back on the host.

    It fails with all accepted parts, which by themselves are right. The last member of a smallest
    failing set is the last of the shortest prefix of them that fails with ``part``; with that
    member kept, the same is asked again of what comes before it. With any part fewer the model is
    right, provided that more parts on the device never make it right again. About ``log2(n)``
    steps a member.

    Parameters
    ----------
    state
        Of the search.
    part
        It failed when it was moved.
    step
        Index of the step in which it failed; by default the one under way.

    Returns
    -------
    bool
        Whether the part is settled; False where other parts turned out to be flaky, so that it
        deserves another try.
    """
    step = state.step if step is None else step
    others, context = list(state.accepted), [part]
    is_complete = True
    while others:
        outcome = yield state.proposal(context, Purpose.REDUCE)
        good, bad = 0, len(others)
        is_found = not outcome.is_good
        while not (is_found or outcome.is_flaky) and bad - good > 1:
            middle = (good + bad) // 2
            outcome = yield state.proposal((*others[:middle], *context), Purpose.REDUCE)
            good, bad = (middle, bad) if outcome.is_good else (good, middle)
        if outcome.is_flaky:
            state.withdraw(outcome.flaky or frozenset({part}))
            return not outcome.flaky or part in outcome.flaky
        is_complete = len(context) <= MOST_TOGETHER
        if is_found or not is_complete:
            break
        context.insert(0, others[bad - 1])
        others = others[: bad - 1]
    state.findings.append(
        Finding(part=part, step=step, together=tuple(context[:-1]), is_complete=is_complete)
    )
    return True
