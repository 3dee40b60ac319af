"""All at once, and halves of what fails."""

from __future__ import annotations

from collections.abc import Sequence

from relax_tapml.migrate.strategies._reduce import reduce
from relax_tapml.migrate.strategies.strategy import Proposals, SearchState, Strategy
from relax_tapml.results.step_result import Purpose


class Bisect(Strategy):
    """Move everything at once; where that fails, find the first part that makes it fail.

    What is looked for is the shortest failing prefix of the order, as ``git bisect`` does: about
    ``log2(n)`` steps for each part that is wrong, and two if none is.
    """

    name = "bisect"
    summary = "move all at once, halve what fails"
    moves_all_first = True

    def least_steps(self, groups: int) -> int:
        """See ``Strategy``."""
        return 1 + min(groups, 1)

    def proposals(self, state: SearchState, groups: Sequence[Sequence[str]]) -> Proposals:
        """See ``Strategy``."""
        rest = [part for group in groups for part in group]
        state.remaining = 2
        if not (yield state.proposal((), Purpose.BASELINE)).is_good:
            return
        while rest:
            state.remaining = 1 + len(rest).bit_length()
            outcome = yield state.proposal((*state.accepted, *rest), Purpose.MOVE)
            if outcome.is_good:
                state.accepted += rest
                return
            is_flaky, step = outcome.is_flaky, state.step
            good, bad = 0, len(rest)
            while bad - good > 1 and not outcome.flaky:
                state.remaining = (bad - good - 1).bit_length()
                middle = (good + bad) // 2
                tried = (*state.accepted, *rest[:middle])
                outcome = yield state.proposal(tried, Purpose.SEARCH)
                if outcome.is_good:
                    good = middle
                else:
                    is_flaky, step, bad = outcome.is_flaky, state.step, middle
            if outcome.flaky:
                state.withdraw(outcome.flaky)
                rest = [part for part in rest if part not in outcome.flaky]
                continue
            state.accepted += rest[:good]
            part, rest = rest[bad - 1], rest[bad:]
            if is_flaky:
                state.withdraw(frozenset({part}), step=step)
            elif not (yield from reduce(state, part, step=step)):
                rest.insert(0, part)
