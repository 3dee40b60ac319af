"""Which boundary to try next: pure state machines, without devices, files or clocks.

A strategy is a generator that yields what to try and is sent what came of it, so each reads as the
algorithm it is. Fed the outcomes of an earlier run it continues where that stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from relax_tapml.results.step_result import Purpose

MOST_TOGETHER = 8
"""A failing set of more parts than this is reported as found so far."""


class StrategyName(StrEnum):
    """How a migration proceeds."""

    LINEAR = "linear"
    BISECT = "bisect"
    ISOLATED = "isolated"


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
        Parts that must be on the device, too, for it to fail; none if it fails without company.
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


Search = Generator[Proposal, Outcome, None]


@dataclass
class Progress:
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


class Strategy:
    """A search, one boundary at a time: ``propose``, ``settle``, until nothing is proposed.

    Parameters
    ----------
    name
        Which search.
    groups
        Parts in the order to move them in. Those of one group move together, and one by one if
        that fails.
    """

    def __init__(self, name: StrategyName, groups: Sequence[Sequence[str]]) -> None:
        self._progress = Progress()
        self._search = _SEARCHES[name](self._progress, groups)
        self._proposal = next(self._search, None)

    @property
    def accepted(self) -> frozenset[str]:
        """The parts on the device in the last good step."""
        return frozenset(self._progress.accepted)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The parts that do not belong on the device, in the order found."""
        return tuple(self._progress.findings)

    @property
    def remaining(self) -> int:
        """About how many steps are still to be made, the proposed one included."""
        return self._progress.remaining if self._proposal is not None else 0

    def propose(self) -> Proposal | None:
        """Return the next boundary to try, or None at the end."""
        return self._proposal

    def settle(self, outcome: Outcome) -> None:
        """Take in what came of the proposed boundary. Nothing is tried after a bad baseline."""
        if self._proposal is None:
            raise ValueError("there is no step to settle")
        try:
            self._proposal = self._search.send(outcome)
        except StopIteration:
            self._proposal = None
        self._progress.step += 1


def _linear(progress: Progress, groups: Sequence[Sequence[str]]) -> Search:
    """Move group after group; one that fails goes back to the host.

    This is the paper's Algorithm 1: each step differs from the last good one in what moved last,
    so a wrong result is the fault of that, or of that in company of what moved before.
    """
    pending = deque(tuple(group) for group in groups if group)
    progress.remaining = len(pending) + 1
    if not (yield progress.proposal((), Purpose.BASELINE)).is_good:
        return
    while pending:
        progress.remaining = len(pending)
        group = pending.popleft()
        outcome = yield progress.proposal((*progress.accepted, *group), Purpose.MOVE)
        if outcome.is_good:
            progress.accepted += group
        elif outcome.flaky:
            progress.withdraw(outcome.flaky)
            rest = tuple(part for part in group if part not in outcome.flaky)
            pending.extendleft([rest] if rest else [])
        elif len(group) > 1:
            pending.extendleft((part,) for part in reversed(group))
        elif outcome.is_flaky:
            progress.withdraw(frozenset(group))
        elif not (yield from _reduce(progress, group[0])):
            pending.appendleft(group)


def _bisect(progress: Progress, groups: Sequence[Sequence[str]]) -> Search:
    """Move everything at once; where that fails, find the first part that makes it fail.

    What is looked for is the shortest failing prefix of the order, as ``git bisect`` does: about
    ``log2(n)`` steps for each part that is wrong, and two if none is.
    """
    rest = [part for group in groups for part in group]
    progress.remaining = 2
    if not (yield progress.proposal((), Purpose.BASELINE)).is_good:
        return
    while rest:
        progress.remaining = 1 + len(rest).bit_length()
        outcome = yield progress.proposal((*progress.accepted, *rest), Purpose.MOVE)
        if outcome.is_good:
            progress.accepted += rest
            return
        is_flaky, step = outcome.is_flaky, progress.step
        good, bad = 0, len(rest)
        while bad - good > 1 and not outcome.flaky:
            progress.remaining = (bad - good - 1).bit_length()
            middle = (good + bad) // 2
            tried = (*progress.accepted, *rest[:middle])
            outcome = yield progress.proposal(tried, Purpose.SEARCH)
            if outcome.is_good:
                good = middle
            else:
                is_flaky, step, bad = outcome.is_flaky, progress.step, middle
        if outcome.flaky:
            progress.withdraw(outcome.flaky)
            rest = [part for part in rest if part not in outcome.flaky]
            continue
        progress.accepted += rest[:good]
        part, rest = rest[bad - 1], rest[bad:]
        if is_flaky:
            progress.withdraw(frozenset({part}), step=step)
        elif not (yield from _reduce(progress, part, step=step)):
            rest.insert(0, part)


def _isolated(progress: Progress, groups: Sequence[Sequence[str]]) -> Search:  # noqa: ARG001
    """Try no boundary at all: each unit was replayed alone."""
    yield from ()


def _reduce(
    progress: Progress, part: str, *, step: int | None = None
) -> Generator[Proposal, Outcome, bool]:
    """Find the smallest company in which ``part`` fails, and put the part back on the host.

    It fails with all accepted parts, which by themselves are right. The last member of a smallest
    failing company is the last of the shortest prefix of them that fails with ``part``; with that
    member kept, the same is asked again of what comes before it. With any part fewer the model is
    right, provided that more parts on the device never make it right again. About ``log2(n)``
    steps a member.

    Returns
    -------
    bool
        Whether the part is settled; False where other parts turned out to be flaky, so that it
        deserves another try.
    """
    step = progress.step if step is None else step
    others, context = list(progress.accepted), [part]
    is_complete = True
    while others:
        outcome = yield progress.proposal(context, Purpose.REDUCE)
        good, bad = 0, len(others)
        is_found = not outcome.is_good
        while not (is_found or outcome.is_flaky) and bad - good > 1:
            middle = (good + bad) // 2
            outcome = yield progress.proposal((*others[:middle], *context), Purpose.REDUCE)
            good, bad = (middle, bad) if outcome.is_good else (good, middle)
        if outcome.is_flaky:
            progress.withdraw(outcome.flaky or frozenset({part}))
            return not outcome.flaky or part in outcome.flaky
        is_complete = len(context) <= MOST_TOGETHER
        if is_found or not is_complete:
            break
        context.insert(0, others[bad - 1])
        others = others[: bad - 1]
    progress.findings.append(
        Finding(part=part, step=step, together=tuple(context[:-1]), is_complete=is_complete)
    )
    return True


_SEARCHES: Mapping[StrategyName, Callable[[Progress, Sequence[Sequence[str]]], Search]] = {
    StrategyName.LINEAR: _linear,
    StrategyName.BISECT: _bisect,
    StrategyName.ISOLATED: _isolated,
}
