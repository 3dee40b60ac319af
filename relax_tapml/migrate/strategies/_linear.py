"""One group after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from relax_tapml.migrate.strategies._reduce import reduce
from relax_tapml.migrate.strategies.strategy import Proposals, SearchState, Strategy
from relax_tapml.results.step_result import Purpose


class Linear(Strategy):
    """Move group after group; one that fails goes back to the host.

    This is the paper's Algorithm 1: each step differs from the last good one in what moved last,
    so a wrong result is the fault of that, or of that together with what moved before.
    """

    name = "linear"
    summary = "move one after another"

    def proposals(self, state: SearchState, groups: Sequence[Sequence[str]]) -> Proposals:
        """See ``Strategy``."""
        pending = deque(tuple(group) for group in groups if group)
        state.remaining = len(pending) + 1
        if not (yield state.proposal((), Purpose.BASELINE)).is_good:
            return
        while pending:
            state.remaining = len(pending)
            group = pending.popleft()
            outcome = yield state.proposal((*state.accepted, *group), Purpose.MOVE)
            if outcome.is_good:
                state.accepted += group
            elif outcome.flaky:
                state.withdraw(outcome.flaky)
                rest = tuple(part for part in group if part not in outcome.flaky)
                pending.extendleft([rest] if rest else [])
            elif len(group) > 1:
                pending.extendleft((part,) for part in reversed(group))
            elif outcome.is_flaky:
                state.withdraw(frozenset(group))
            elif not (yield from reduce(state, group[0])):
                pending.appendleft(group)
