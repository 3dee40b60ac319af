"""How long a run will about take, stage by stage: first from counts, then from a measured run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from relax_tapml.bringup._fitting_strategy import fitting, step_seconds
from relax_tapml.bringup._measured import Measured
from relax_tapml.bringup._work import work_of
from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.migrate_model import MigrationPlan
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.cores import usable_cores
from relax_tapml.frontend.model import Model
from relax_tapml.report.quantities import about_text, count_text, rough_text

# Measured on two idle cores of an x86 server with MiniLM and small Llamas. They set the first plan;
# the run time and the build time that are measured replace those that matter most.
_CPU_ITERATIONS_PER_S = 1e9
_GPU_ITERATIONS_PER_S = 1e11
_CPU_KERNEL_S = 0.25
_GPU_KERNEL_S = 3.0
_DISK_BYTES_PER_S = 4e8
_UNIT_CARVE_S = 0.16
_UNIT_REPLAY_S = 0.03
_SESSION_S = 1.0
# Calls of a unit, for its cases and probes: evaluated in float64 and in its dtype, and replayed.
_CARVE_CALLS = 40
_REPLAY_CALLS = 10
# For the tolerances of the model's outputs.
_NOISY_RUNS = 3
# What a stage takes whatever the model is.
_STAGE_S = 0.5
# So many kernels show how fast the machine is, compared with that one.
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
    """

    def __init__(
        self,
        model: Model,
        lowered: Lowered,
        source: SideSpec,
        target: SideSpec,
        migration: MigrationPlan,
        repeat: int = 1,
    ) -> None:
        self._work = work_of(model, lowered)
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
        work, source, target = self._work, self._source, self._target
        units, is_alike = len(work.iterations), _kind(source) == _kind(target)
        slowness = _slowness(source, measured)
        seconds: dict[str, float] = {}
        if measured is None:
            run_s = slowness * work.samples * work.of_a_run / _rate(source)
            seconds["source"] = slowness * (_STAGE_S + _build_s(units, source)) + 1.5 * run_s
        else:
            run_s = measured.run_s
        iteration_s = run_s / max(work.samples * work.of_a_run, 1)
        seconds["capture"] = seconds["carve"] = 0.0
        if not is_carved:
            stored = work.samples * work.activation_bytes + work.weights_bytes
            seconds["capture"] = slowness * (_STAGE_S + stored / _DISK_BYTES_PER_S) + 2 * run_s
            evaluated = _CARVE_CALLS * work.of_each_unit * iteration_s
            seconds["carve"] = slowness * (_STAGE_S + units * _UNIT_CARVE_S) + evaluated
        is_built = str(source.target) == str(target.target) and target.pipeline is None
        if not is_built:
            seconds["kernels"] = slowness * _build_s(units, target)
        target_s = iteration_s if is_alike else 1 / _rate(target)
        replayed = _REPLAY_CALLS * work.of_each_unit * target_s
        seconds["replay"] = slowness * (_SESSION_S + units * _UNIT_REPLAY_S) + replayed
        seconds["migrate"] = 0.0
        usual = self._migration.strategy
        if usual is None:
            return Plan(seconds=seconds)
        groups = len(self._migration.batches(self._lowered, self._lowered.units))
        step_s = step_seconds(run_s * self._repeat, len(self._lowered.table))
        strategy, _ = fitting(usual, groups, step_s, self._migration.bisect_above_s)
        steps = strategy.least_steps(groups)
        if self._migration.limit is not None:
            steps = min(steps, self._migration.limit + 1)
        sent_s = work.weights_bytes / _DISK_BYTES_PER_S
        runs_s = _NOISY_RUNS * run_s + steps * step_s
        seconds["migrate"] = slowness * (_STAGE_S + sent_s) + runs_s
        return Plan(seconds=seconds, migration=f"{strategy.name}, {count_text(steps, 'step')}")


def _slowness(source: SideSpec, measured: Measured | None) -> float:
    """Return how much slower this machine is than that of the constants, with what else it does.

    By the kernels that were built, if these were enough, and else by the load.
    """
    is_shown = measured is not None and measured.kernels_built >= _KERNELS_ENOUGH
    if measured is not None and is_shown and _kind(source) == "cpu":
        return measured.build_s / _build_s(measured.kernels_built, source)
    with suppress(OSError, AttributeError):  # Some systems have no such number.
        return max(1.0, os.getloadavg()[0] / usable_cores())
    return 1.0


def _rate(side: SideSpec) -> float:
    return _CPU_ITERATIONS_PER_S if _kind(side) == "cpu" else _GPU_ITERATIONS_PER_S


def _build_s(units: int, side: SideSpec) -> float:
    each = _CPU_KERNEL_S if _kind(side) == "cpu" else _GPU_KERNEL_S
    return units * each / usable_cores()


def _kind(side: SideSpec) -> str:
    return "cpu" if side.name in ("llvm", "c") else side.name
