"""Move the boundary until the search is done."""

from __future__ import annotations

from collections.abc import Callable

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import SourceError, StoreError
from relax_tapml.migrate.strategies.search import Search
from relax_tapml.migrate.strategies.strategy import Outcome, Proposal
from relax_tapml.migrate.trial import Trial
from relax_tapml.progress import SILENT, Stage
from relax_tapml.results.step_result import Purpose, StepResult


def migrate(
    trial: Trial,
    search: Search,
    *,
    steps: list[StepResult],
    on_step: Callable[[StepResult], None] = lambda _step: None,
    limit: int | None = None,
    stage: Stage = SILENT,
) -> None:
    """Try one boundary after another.

    Parameters
    ----------
    trial
        What boundaries are tried with.
    search
        Decides what to try next.
    steps
        Steps of an earlier run, which are taken over; new ones are added.
    on_step
        Called after each new step, to save it.
    limit
        At most this many moves are made now; None for all.
    stage
        Shows the progress.

    Raises
    ------
    SourceError
        With nothing on the device the partitioned source differs from the source.
    StoreError
        The earlier run made other steps than this search would have made.
    """
    for number, step in enumerate(steps):
        known = search.propose()
        outcome = outcome_of(step)
        is_same = known is not None and step.boundary == tuple(sorted(known.boundary))
        if not is_same or not outcome.flaky.issubset(step.boundary):
            raise StoreError(
                f"step {number} of the earlier run is not one that this search makes: its state is "
                "damaged. Start anew with --force"
            )
        search.settle(outcome)
    moves = 0
    while (proposal := search.propose()) is not None:
        if proposal.purpose is Purpose.MOVE:
            if limit is not None and moves >= limit:
                return
            moves += 1
        total = len(steps) + search.remaining
        stage.update(len(steps), total)
        stage.say(f"step {len(steps) + 1} of {total}, {_doing(proposal)}")
        step = trial.step(proposal)
        outcome = outcome_of(step)
        search.settle(outcome)
        if proposal.purpose is Purpose.BASELINE and not outcome.is_good:
            raise SourceError(
                "with no unit on the device the partitioned model differs from the source: "
                f"{step.reason}. The target was not judged"
            )
        steps.append(step)
        on_step(step)


def _doing(proposal: Proposal) -> str:
    """Return what a step tries, for people."""
    if not proposal.moved:
        return "nothing on the device"
    first, *others = proposal.moved
    more = f" and {len(others)} more" if others else ""
    return f"{proposal.purpose}: {first}{more}"


def outcome_of(step: StepResult) -> Outcome:
    """Return what a step means for the search, which goes on where nothing is known to be wrong."""
    is_right = step.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE) or bool(step.session)
    return Outcome(
        is_good=is_right and not step.exhausting,
        is_flaky=bool(step.exhausting) or (step.verdict is Verdict.FLAKY and not is_right),
        flaky=frozenset(step.flaky) | frozenset(step.exhausting),
    )
