"""The migration of one model: what moves, the steps so far, and what they say of each unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from relax_tapml.bringup.run_folder import RunFolder
from relax_tapml.compare.verdict import Verdict
from relax_tapml.migrate.driver import migrate
from relax_tapml.migrate.in_context import InContext, contexts
from relax_tapml.migrate.move_groups import MoveGroup
from relax_tapml.migrate.step import Step, Trial
from relax_tapml.migrate.strategies.search import Search
from relax_tapml.migrate.strategies.strategy import Strategy
from relax_tapml.partition.boundary import Boundary, boundary_of
from relax_tapml.partition.site_table import SiteEntry
from relax_tapml.progress import Stage


class Migration:
    """A search over boundaries that is saved after every step, and continues where it stopped.

    Parameters
    ----------
    strategy
        Which boundaries are tried.
    groups
        Of ``parts_in_groups``.
    table
        Of ``site_table``.
    folder, state
        Where steps are kept: the run's folder, and what its ``continue_device`` returned.
    """

    def __init__(
        self,
        strategy: Strategy,
        groups: Sequence[Sequence[MoveGroup]],
        table: Sequence[SiteEntry],
        folder: RunFolder,
        state: dict[str, Any],
    ) -> None:
        names = [[part.name for part in group] for group in groups]
        self.parts = {part.name: part for group in groups for part in group}
        self.steps = folder.continue_search(state, {"strategy": strategy.name, "groups": names})
        self._search = Search(strategy, names)
        self._table = table
        self._folder = folder
        self._state = state

    @property
    def sites(self) -> frozenset[str]:
        """Ids of the sites on the device in the last good step."""
        return self._sites_of(self.accepted)

    @property
    def accepted(self) -> frozenset[str]:
        """Parts on the device in the last good step; none if no step could be judged."""
        is_judged = any(step.verdict is Verdict.PASS for step in self.steps)
        return self._search.accepted if is_judged else frozenset()

    @property
    def boundary(self) -> Boundary:
        """The boundary of the last good step."""
        return boundary_of(self.sites, self._table)

    def run(self, trial: Trial, *, limit: int | None, stage: Stage) -> None:
        """Go on until nothing is left to try, or ``limit`` moves are made. See ``migrate``."""
        migrate(trial, self._search, steps=self.steps, on_step=self._save, limit=limit, stage=stage)

    def contexts(self) -> dict[str, InContext]:
        """Return what the steps say of each unit that was to be moved."""
        return contexts(self.parts, self.accepted, self._search.findings, self.steps)

    def _save(self, step: Step) -> None:
        boundary = boundary_of(self._sites_of(step.boundary), self._table)
        self._folder.save_boundary(len(self.steps) - 1, boundary)
        self._state["steps"].append(step.document())
        self._folder.save()

    def _sites_of(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset[str]().union(*(self.parts[name].sites for name in names))
