"""The strategies there are; read by the command line, so it must not load TVM."""

from __future__ import annotations

from relax_tapml.errors import UsageError
from relax_tapml.migrate.strategies._bisect import Bisect
from relax_tapml.migrate.strategies._linear import Linear
from relax_tapml.migrate.strategies.strategy import Strategy

LINEAR = Linear()
BISECT = Bisect()

STRATEGIES: tuple[Strategy, ...] = (
    LINEAR,
    BISECT,
)

ISOLATED = "isolated"
"""Given in place of a strategy: only replay each unit alone, and move nothing."""

# What ``--strategy`` takes, and what each does.
CHOICES = {strategy.name: strategy.summary for strategy in STRATEGIES} | {
    ISOLATED: "only replay each unit alone"
}


def strategy_named(name: str) -> Strategy | None:
    """Return a strategy by its name, None for ``ISOLATED``. Raises ``UsageError`` for others."""
    if name not in CHOICES:
        raise UsageError(f"--strategy {name}: expected one of {', '.join(CHOICES)}")
    return next((strategy for strategy in STRATEGIES if strategy.name == name), None)
