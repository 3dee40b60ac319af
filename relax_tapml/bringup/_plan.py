"""How long a run will about take, stage by stage: first from counts, then from a measured run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from relax_tapml.bringup._costs import Costs, step_seconds
from relax_tapml.bringup._fitting_strategy import fitting
from relax_tapml.bringup._machine_speed import MachineSpeed, machine_speed
from relax_tapml.bringup._measured import Measured
from relax_tapml.bringup._work import work_of
from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.migrate_model import MigrationPlan
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.frontend.model import Model
from relax_tapml.report.quantities import about_text, count_text, rough_text

# For the tolerances of the model's outputs.
_NOISY_RUNS = 3
# Of each stage whatever the model is, and of opening a session.
_STAGE_S = 0.3
_SESSION_S = 0.5
# A replay on the source builds what fills workspaces, too, about one for so many units.
_UNITS_OF_A_FILLER = 3
# So many kernels show how fast the machine builds, compared with the one that was measured.
_KERNELS_ENOUGH = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages to come.

    Parameters
    ----------
    seconds
        Of each, by title and in order.
    migration
        How the boundary moves, for people: ``bisect, about 6 steps``; empty if it does not.
    """

    seconds: Mapping[str, float]
    migration: str = ""

    @property
    def total_s(self) -> float:
        """Of all stages to come."""
        return sum(self.seconds.values())

    @property
    def text(self) -> str:
        """All of it in a line."""
        parts = []
        for title, seconds in self.seconds.items():
            note = f" ({self.migration})" if title == "migrate" and self.migration else ""
            if seconds >= 0.5 or note:
                parts.append(f"{title} {rough_text(seconds)}{note}")
        return f"{about_text(self.total_s)}: {', '.join(parts)}"


class Planner:
    """Foresees the stages of one run.

    Parameters
    ----------
    model, lowered
        What is run.
    source, target, migration, repeat
        How.
    speed
        Of this machine; measured if it is None.
    """

    def __init__(
        self,
        model: Model,
        lowered: Lowered,
        source: SideSpec,
        target: SideSpec,
        migration: MigrationPlan,
        repeat: int = 1,
        speed: MachineSpeed | None = None,
    ) -> None:
        work = work_of(model, lowered)
        self._costs = Costs(work=work, speed=speed or machine_speed(work.heaviest_dtype))
        self._lowered = lowered
        self._source, self._target = source, target
        self._migration = migration
        self._repeat = repeat

    def plan(self, measured: Measured | None = None, *, is_carved: bool = False) -> Plan:
        """Return what is to come.

        Parameters
        ----------
        measured
            By the source's first run; None before it, when ``source`` is to come, too.
        is_carved
            Whether an earlier run has captured and carved.
        """
        costs = self._costs if measured is None else self._corrected(measured)
        work, source, target = costs.work, _kind(self._source), _kind(self._target)
        run_s, derive_s = costs.run_s(source), costs.derive_s(source)
        factor = 1.0
        seconds: dict[str, float] = {}
        if measured is None:
            building_s = costs.build_s(len(work.units), source)
            ran_s = 1.5 * run_s + derive_s + costs.framework_s
            seconds["source"] = costs.fixed_s(_STAGE_S) + building_s + ran_s
        else:
            factor = _factor(measured.run_s + measured.derive_s, run_s + derive_s)
            run_s, derive_s = measured.run_s, measured.derive_s
        target_factor = factor if source == target else 1.0
        seconds["capture"] = seconds["carve"] = 0.0
        if not is_carved:
            stored = work.weights_bytes + work.derived_bytes
            stored += work.samples * work.activation_bytes
            running_s = 2 * (run_s + derive_s)
            seconds["capture"] = costs.fixed_s(_STAGE_S) + costs.disk_s(stored) + running_s
            fillers_s = costs.build_s(len(work.units) // _UNITS_OF_A_FILLER, source)
            replay_s = costs.replay_s(factor, source)
            seconds["carve"] = costs.fixed_s(_STAGE_S) + costs.carve_s + fillers_s + replay_s
        is_same = str(self._source.target) == str(self._target.target)
        if not is_same or self._target.pipeline is not None:
            seconds["kernels"] = costs.build_s(len(work.units), target)
        session_s = costs.fixed_s(_SESSION_S)
        seconds["replay"] = session_s + self._repeat * costs.replay_s(target_factor, target)
        seconds["migrate"] = 0.0
        usual = self._migration.strategy
        if usual is None:
            return Plan(seconds=seconds)
        groups = len(self._migration.batches(self._lowered, self._lowered.units))
        step_s = step_seconds(run_s * self._repeat, len(self._lowered.table), costs.slowness)
        strategy, _ = fitting(usual, groups, step_s, self._migration.bisect_above_s)
        steps = strategy.least_steps(groups)
        if self._migration.limit is not None:
            steps = min(steps, self._migration.limit + 1)
        runs_s = _NOISY_RUNS * run_s + derive_s + steps * step_s
        written_s = costs.disk_s(work.weights_bytes)
        seconds["migrate"] = costs.fixed_s(_STAGE_S) + written_s + runs_s
        return Plan(seconds=seconds, migration=f"{strategy.name}, {count_text(steps, 'step')}")

    def _corrected(self, measured: Measured) -> Costs:
        """Return what the parts cost on a machine that has built the source's kernels so fast.

        Building wants all cores, so what else the machine does slows it down more than the rest.
        """
        costs, kind = self._costs, _kind(self._source)
        if measured.kernels_built < _KERNELS_ENOUGH or kind != "cpu":
            return costs
        slower = _factor(measured.build_s, costs.build_s(measured.kernels_built, kind))
        return replace(costs, speed=replace(costs.speed, busy=costs.speed.busy * math.sqrt(slower)))


def _factor(measured_s: float, expected_s: float) -> float:
    """Return how many times longer than expected something took."""
    return measured_s / expected_s if expected_s > 0 else 1.0


def _kind(side: SideSpec) -> str:
    return "cpu" if side.name in ("llvm", "c") else side.name
