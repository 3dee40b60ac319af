"""The migration of one model: what moves, the steps so far, and what follows for each unit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from relax_tapml.compare.verdict import Verdict
from relax_tapml.crossings import DeviceCall
from relax_tapml.migrate.driver import migrate
from relax_tapml.migrate.in_context import InContext, contexts
from relax_tapml.migrate.move_groups import MoveGroup
from relax_tapml.migrate.strategies.search import Search
from relax_tapml.migrate.strategies.strategy import Strategy
from relax_tapml.migrate.trial import Trial
from relax_tapml.partition.boundary import Boundary, boundary_of
from relax_tapml.partition.site_table import SiteEntry
from relax_tapml.progress import Stage
from relax_tapml.results.pipeline_result import PipelineRun
from relax_tapml.results.step_result import StepResult


class MigrationLog(Protocol):
    """Where a migration is kept, so that an interrupted one can go on."""

    def earlier_steps(
        self, strategy: str, batches: Sequence[Sequence[str]], reason: str = ""
    ) -> list[StepResult]:
        """Return the steps an earlier run made in the same search; none if it made another.

        Parameters
        ----------
        strategy, batches
            What decides which steps are made: the name of the strategy, and the names of the move
            groups in the order in which they move.
        reason
            Why the strategy was chosen, which is kept; empty where it was given.
        """

    def earlier_choice(self, batches: Sequence[Sequence[str]]) -> tuple[str, str] | None:
        """Return the strategy that an earlier run chose for these move groups, and why."""

    def add_step(self, step: StepResult, boundary: Boundary) -> None:
        """Keep one more step, and the boundary that it tried."""

    def keep_last_good(self, calls: Sequence[DeviceCall]) -> None:
        """Keep the device calls of the last good boundary."""

    def earlier_pipeline(self, restored: Collection[str]) -> PipelineRun | None:
        """Return an earlier run of the pipeline's module with the same kernels restored."""

    def add_pipeline(self, run: PipelineRun) -> None:
        """Keep the run of the pipeline's module."""


class NoLog:
    """The log of a migration that begins anew and is not to be continued."""

    def earlier_steps(
        self, strategy: str, batches: Sequence[Sequence[str]], reason: str = ""
    ) -> list[StepResult]:
        """Return no steps."""
        del strategy, batches, reason
        return []

    def earlier_choice(self, batches: Sequence[Sequence[str]]) -> tuple[str, str] | None:
        """Return none."""
        del batches
        return None

    def add_step(self, step: StepResult, boundary: Boundary) -> None:
        """Keep nothing."""

    def keep_last_good(self, calls: Sequence[DeviceCall]) -> None:
        """Keep nothing."""

    def earlier_pipeline(self, restored: Collection[str]) -> PipelineRun | None:
        """Return no run."""
        del restored
        return None

    def add_pipeline(self, run: PipelineRun) -> None:
        """Keep nothing."""


class Migration:
    """A search over boundaries that is kept after every step, and continues where it stopped.

    Parameters
    ----------
    strategy
        Which boundaries are tried.
    batches
        Of ``move_batches``.
    table
        Of ``site_table``.
    log
        Where steps are kept.
    reason
        Why the strategy was chosen; empty where it was given.
    """

    def __init__(
        self,
        strategy: Strategy,
        batches: Sequence[Sequence[MoveGroup]],
        table: Sequence[SiteEntry],
        log: MigrationLog,
        reason: str = "",
    ) -> None:
        names = [[group.name for group in batch] for batch in batches]
        self.groups = {group.name: group for batch in batches for group in batch}
        self.steps = log.earlier_steps(strategy.name, names, reason)
        self._search = Search(strategy, names)
        self._table = table
        self._log = log

    @property
    def sites(self) -> frozenset[str]:
        """Ids of the sites on the device in the last good step."""
        return self._sites_of(self.accepted)

    @property
    def accepted(self) -> frozenset[str]:
        """Groups on the device in the last good step; none if no step could be judged."""
        is_judged = any(step.verdict is Verdict.PASS for step in self.steps)
        return self._search.accepted if is_judged else frozenset()

    @property
    def boundary(self) -> Boundary:
        """The boundary of the last good step."""
        return boundary_of(self.sites, self._table)

    def run(self, trial: Trial, *, limit: int | None, stage: Stage) -> None:
        """Go on until nothing is left to try, or ``limit`` moves are made. See ``migrate``."""
        migrate(trial, self._search, steps=self.steps, on_step=self._keep, limit=limit, stage=stage)

    def contexts(self) -> dict[str, InContext]:
        """Return what the steps mean for each unit that was to be moved."""
        return contexts(self.groups, self.accepted, self._search.findings, self.steps)

    def _keep(self, step: StepResult) -> None:
        self._log.add_step(step, boundary_of(self._sites_of(step.boundary), self._table))

    def _sites_of(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset[str]().union(*(self.groups[name].sites for name in names))
