"""What a strategy is: it proposes boundaries, one after another, and reads their outcomes.

Strategies are pure: without devices, files or clocks. A subclass of ``Strategy`` is one of them, in
one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from relax_tapml.results.step_result import Purpose


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A boundary to try.

    Parameters
    ----------
    boundary
        The parts on the device.
    moved
        Those of them that are not in the last good step, in order; none for the baseline.
    purpose
        Why it is tried.
    """

    boundary: frozenset[str]
    moved: tuple[str, ...]
    purpose: Purpose

    @property
    def is_alone(self) -> bool:
        """Whether it asks if a part that failed with others also fails without them."""
        return self.purpose is Purpose.REDUCE and self.boundary == frozenset(self.moved)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a proposal.

    Parameters
    ----------
    is_good
        Every run of it agreed with the source.
    is_flaky
        Some runs did, some did not.
    flaky
        Of a flaky one: the parts that are flaky by themselves.
    """

    is_good: bool
    is_flaky: bool = False
    flaky: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A part that does not belong on the device.

    Parameters
    ----------
    part
        Its name.
    step
        Index of the step in which it failed.
    together
        Parts that must be on the device, too, for it to fail; none if it fails without others.
    is_complete
        Whether ``together`` is all of them: any fewer, and the model is right.
    is_flaky
        It fails now and then.
    """

    part: str
    step: int
    together: tuple[str, ...] = ()
    is_complete: bool = True
    is_flaky: bool = False


@dataclass
class SearchState:
    """What a search has found so far.

    Parameters
    ----------
    accepted
        The parts on the device in the last good step, in the order they got there.
    findings
        Parts that went back to the host.
    step
        Index of the step under way.
    remaining
        About how many steps are still to be made.
    """

    accepted: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    step: int = 0
    remaining: int = 0

    def proposal(self, parts: Sequence[str], purpose: Purpose) -> Proposal:
        """Return the boundary of ``parts`` alone."""
        accepted = set(self.accepted)
        moved = tuple(part for part in parts if part not in accepted)
        return Proposal(boundary=frozenset(parts), moved=moved, purpose=purpose)

    def withdraw(self, flaky: frozenset[str], *, step: int | None = None) -> None:
        """Put flaky parts back on the host; ``step`` is where that was seen, now by default."""
        step = self.step if step is None else step
        self.accepted = [part for part in self.accepted if part not in flaky]
        self.findings += [Finding(part=part, step=step, is_flaky=True) for part in sorted(flaky)]


Proposals = Generator[Proposal, Outcome, None]


class Strategy(ABC):
    """In which order boundaries are tried, and what is concluded from their outcomes."""

    name: ClassVar[str]
    """As ``--strategy`` takes it."""

    summary: ClassVar[str]
    """What it does, in a few words."""

    moves_all_first: ClassVar[bool] = False
    """Whether its first move is everything, so that the number of moves cannot be limited."""

    def least_steps(self, groups: int) -> int:
        """Return how many steps a model of so many move groups takes if nothing is wrong."""
        return 1 + groups

    @abstractmethod
    def proposals(self, state: SearchState, groups: Sequence[Sequence[str]]) -> Proposals:
        """Yield what to try and receive what came of it, so that it reads as the algorithm it is.

        It has no other state than its outcomes: with those of an earlier run it continues where
        that one stopped. Nothing may be tried after a bad baseline, which is the first step.

        Parameters
        ----------
        state
            Kept up to date by the strategy: ``accepted``, ``findings`` and ``remaining``.
        groups
            Parts in the order to move them in. Those of one group move together, and one by one
            if that fails.
        """
