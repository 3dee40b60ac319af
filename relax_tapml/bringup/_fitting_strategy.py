"""Which strategy fits a model of some size."""

from __future__ import annotations

from relax_tapml.migrate.strategies.registry import BISECT
from relax_tapml.migrate.strategies.strategy import Strategy
from relax_tapml.report.quantities import about_text, count_text, rough_text


def fitting(
    strategy: Strategy, groups: int, step_s: float, bisect_above_s: float | None
) -> tuple[Strategy, str]:
    """Return the strategy for a model of some size, and why it is that one.

    Parameters
    ----------
    strategy
        What is used where there is time for it.
    groups
        How many move groups there are.
    step_s
        Seconds of one step.
    bisect_above_s
        If it would take longer than so many seconds, ``bisect`` is used instead; None for never,
        and then there is no reason to give.
    """
    if bisect_above_s is None:
        return strategy, ""
    steps = strategy.least_steps(groups)
    takes = (
        f"{strategy.name} would take {about_text(steps * step_s)}, "
        f"{count_text(steps, 'step')} of {rough_text(step_s)} each"
    )
    limit = rough_text(bisect_above_s)
    if steps * step_s <= bisect_above_s:
        return strategy, f"{takes}, which is not more than {limit}"
    return BISECT, f"{takes}, which is more than {limit}"
