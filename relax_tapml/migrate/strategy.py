"""Which boundary to try next: pure state machines, without devices or files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from relax_tapml.partition.boundary import Boundary


class StrategyName(StrEnum):
    """How a migration proceeds."""

    LINEAR = "linear"
    ISOLATED = "isolated"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A boundary to try.

    Parameters
    ----------
    boundary
        The units on the device.
    moved
        The unit that is new on it; None for the first step, which has none on the device and
        shows that the partitioned source gives the source's outputs.
    """

    boundary: Boundary
    moved: str | None


class LinearStrategy:
    """Move one unit after another to the device, in order; one that fails goes back to the host.

    This is the paper's Algorithm 1: each step differs from the last good one in a single unit, so a
    wrong result is the fault of what moved last.

    Parameters
    ----------
    order
        Units to move, in the order to move them in.
    """

    def __init__(self, order: Sequence[str]) -> None:
        self._pending = list(order)
        self._is_started = False
        self._is_stopped = False
        self.accepted: Boundary = frozenset()

    def propose(self) -> Proposal | None:
        """Return the next boundary to try, or None at the end."""
        if self._is_stopped:
            return None
        if not self._is_started:
            return Proposal(boundary=frozenset(), moved=None)
        if not self._pending:
            return None
        unit = self._pending[0]
        return Proposal(boundary=self.accepted | {unit}, moved=unit)

    def settle(self, *, is_good: bool) -> None:
        """Take in how the proposed boundary did. Nothing is tried after a bad first step."""
        proposal = self.propose()
        if proposal is None:
            raise ValueError("there is no step to settle")
        if proposal.moved is None:
            self._is_started = True
            self._is_stopped = not is_good
            return
        self._pending.pop(0)
        if is_good:
            self.accepted = proposal.boundary
