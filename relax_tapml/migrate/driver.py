"""Move the boundary until the strategy is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relax_tapml.compare.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import SourceError
from relax_tapml.frontend.model import Array, Sample
from relax_tapml.migrate.reporter import Stage
from relax_tapml.migrate.step import Device, Sides, Step, try_step
from relax_tapml.migrate.strategy import LinearStrategy


def migrate(
    sides: Sides,
    strategy: LinearStrategy,
    device: Device,
    samples: Sequence[Sample],
    oracles: Sequence[Sequence[Array]],
    tolerances: Sequence[Sequence[Tolerance]],
    *,
    steps: list[Step],
    on_step: Callable[[Step], None],
    total: int,
    limit: int | None,
    stage: Stage,
) -> None:
    """Try one boundary after another.

    Parameters
    ----------
    sides, device, samples, oracles, tolerances
        As for ``try_step``.
    strategy
        Says what to try.
    steps
        Steps of an earlier run, which are taken over; new ones are added.
    on_step
        Called after each new step, to save it.
    total
        How many steps there will be, for progress.
    stage
        Is told how far the migration is.
    limit
        At most this many units are moved now; None for all.

    Raises
    ------
    SourceError
        With nothing on the device the partitioned source differs from the source.
    """
    for step in steps:
        strategy.settle(is_good=step.verdict is Verdict.PASS)
    moved = 0
    while (proposal := strategy.propose()) is not None:
        if proposal.moved is not None:
            if limit is not None and moved >= limit:
                return
            moved += 1
        stage.update(len(steps), total)
        step = try_step(sides, proposal, device, samples, oracles, tolerances)
        strategy.settle(is_good=step.verdict is Verdict.PASS)
        if proposal.moved is None and step.verdict is not Verdict.PASS:
            raise SourceError(
                "with no unit on the device the partitioned model differs from the source: "
                f"{step.reason}. Nothing can be said about the target"
            )
        steps.append(step)
        on_step(step)
