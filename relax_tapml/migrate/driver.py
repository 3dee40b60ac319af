"""Move the boundary until the search is done."""

from __future__ import annotations

from collections.abc import Callable

from relax_tapml.errors import SourceError, StoreError
from relax_tapml.migrate.step import Step, Trial
from relax_tapml.migrate.strategies.search import Search
from relax_tapml.migrate.strategies.strategy import Purpose
from relax_tapml.progress import SILENT, Stage


def migrate(
    trial: Trial,
    search: Search,
    *,
    steps: list[Step],
    on_step: Callable[[Step], None] = lambda _step: None,
    limit: int | None = None,
    stage: Stage = SILENT,
) -> None:
    """Try one boundary after another.

    Parameters
    ----------
    trial
        What boundaries are tried with.
    search
        Which boundaries to try.
    steps
        Steps of an earlier run, which are taken over; new ones are added.
    on_step
        Called after each new step, to save it.
    limit
        At most this many moves are made now; None for all.
    stage
        Is told how far the migration is.

    Raises
    ------
    SourceError
        With nothing on the device the partitioned source differs from the source.
    StoreError
        The earlier run made other steps than this search would have made.
    """
    for number, step in enumerate(steps):
        known = search.propose()
        is_ours = known is not None and step.boundary == sorted(known.boundary)
        if not is_ours or not step.outcome.flaky.issubset(step.boundary):
            raise StoreError(
                f"step {number} of the earlier run is not one that this search makes: its state is "
                "damaged. Start anew with --force"
            )
        search.settle(step.outcome)
    moves = 0
    while (proposal := search.propose()) is not None:
        if proposal.purpose is Purpose.MOVE:
            if limit is not None and moves >= limit:
                return
            moves += 1
        stage.update(len(steps), len(steps) + search.remaining)
        step = trial.step(proposal)
        search.settle(step.outcome)
        if proposal.purpose is Purpose.BASELINE and not step.outcome.is_good:
            raise SourceError(
                "with no unit on the device the partitioned model differs from the source: "
                f"{step.reason}. Nothing can be said about the target"
            )
        steps.append(step)
        on_step(step)
