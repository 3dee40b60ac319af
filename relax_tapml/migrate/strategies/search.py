"""A strategy at work, one boundary at a time."""

from __future__ import annotations

from collections.abc import Sequence

from relax_tapml.migrate.strategies.strategy import (
    Finding,
    Outcome,
    Proposal,
    SearchState,
    Strategy,
)


class Search:
    """Boundary after boundary: ``propose``, ``settle``, until nothing is proposed.

    Parameters
    ----------
    strategy
        Which boundaries are tried.
    groups
        Parts in the order to move them in. Those of one group move together, and one by one if
        that fails.
    """

    def __init__(self, strategy: Strategy, groups: Sequence[Sequence[str]]) -> None:
        self._state = SearchState()
        self._proposals = strategy.proposals(self._state, groups)
        self._proposal = next(self._proposals, None)

    @property
    def accepted(self) -> frozenset[str]:
        """The parts on the device in the last good step."""
        return frozenset(self._state.accepted)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The parts that do not belong on the device, in the order found."""
        return tuple(self._state.findings)

    @property
    def remaining(self) -> int:
        """About how many steps are still to be made, the proposed one included."""
        return self._state.remaining if self._proposal is not None else 0

    def propose(self) -> Proposal | None:
        """Return the next boundary to try, or None at the end."""
        return self._proposal

    def settle(self, outcome: Outcome) -> None:
        """Take in what came of the proposed boundary. Nothing is tried after a bad baseline."""
        if self._proposal is None:
            raise ValueError("there is no step to settle")
        try:
            self._proposal = self._proposals.send(outcome)
        except StopIteration:
            self._proposal = None
        self._state.step += 1
