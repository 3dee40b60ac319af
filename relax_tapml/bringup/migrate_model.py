"""Move the units to the device step by step, then run what the target's pipeline returned."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relax_tapml.bringup._costs import step_seconds
from relax_tapml.bringup._fitting_strategy import fitting
from relax_tapml.bringup._judged_outputs import JudgedOutput, judged_outputs
from relax_tapml.bringup.alone import Alone, DeviceSpec, movable, replayed
from relax_tapml.bringup.ir_dump import NO_DUMP, IrDump
from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.target_build import TargetBuild
from relax_tapml.bringup.trusted_source import Trusted
from relax_tapml.compare.repeat import ROUNDS
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, MachineError, SourceError
from relax_tapml.migrate.built_sides import BuiltSides, units_of
from relax_tapml.migrate.cache_step import judge_cache
from relax_tapml.migrate.choices import SourceChoices
from relax_tapml.migrate.in_context import InContext, in_context
from relax_tapml.migrate.migration import Migration, MigrationLog, NoLog
from relax_tapml.migrate.move_groups import By, MoveGroup, move_batches
from relax_tapml.migrate.pipeline_step import PipelineTrial, judge_pipeline
from relax_tapml.migrate.strategies.registry import LINEAR, strategy_named
from relax_tapml.migrate.strategies.strategy import Strategy
from relax_tapml.migrate.trial import Trial
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.bundle import write_bundle
from relax_tapml.partition.device_side import unit_roots
from relax_tapml.partition.target_kernels import given_kernels, kernel_receivers
from relax_tapml.progress import SILENT, Stage
from relax_tapml.replays.endurance import find_exhausting_unit
from relax_tapml.report.quantities import count_text
from relax_tapml.results.cache_result import CacheResult, kept_text
from relax_tapml.results.pipeline_result import PipelineResult, PipelineRun
from relax_tapml.results.step_result import StepResult
from relax_tapml.results.unit_result import culprits
from relax_tapml.suite.manifest import NEVER_CALLED, writing_all
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device


@dataclass(frozen=True, kw_only=True)
class MigrationPlan:
    """How the boundary moves.

    Parameters
    ----------
    strategy
        Which boundaries are tried; None for none.
    by
        What moves in one step.
    boundary
        Only these sites may move; None for all that can.
    limit
        How many moves are made now; None for all.
    bisect_above_s
        If the strategy would take longer than so many seconds, by the source's own run time and the
        number of move groups, ``bisect`` is used instead; None for never.
    """

    strategy: Strategy | None = LINEAR
    by: By = By.UNIT
    boundary: Boundary | None = None
    limit: int | None = None
    bisect_above_s: float | None = None

    def batches(self, lowered: Lowered, passing: Collection[str]) -> list[list[MoveGroup]]:
        """Return what moves, in order, if some units pass alone; see ``move_batches``."""
        chosen = None if self.boundary is None else self.boundary.among(lowered.table)
        return move_batches(lowered.table, self.by, movable(lowered, passing, chosen))


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What the migration found.

    Parameters
    ----------
    strategy, strategy_reason
        The name of the strategy, and why it was chosen; empty where it was given, or none was used.
    steps
        The boundaries that were tried, in order.
    contexts
        How each unit does that was to be moved.
    outputs
        What the tolerances of the model's outputs see.
    pipeline
        About a pipeline that changes Relax functions; None without one.
    pipeline_step
        Its run; None if it was not run.
    cache
        About the model with its KV cache on the device; None for a model without one.
    cache_step
        Its run; None if it was not run.
    lost
        Why the migration did not come to its end; empty if it did.
    source_error
        Why the source could not go on; None if it did.
    """

    strategy: str = ""
    strategy_reason: str = ""
    steps: tuple[StepResult, ...] = ()
    contexts: Mapping[str, InContext] = field(default_factory=dict)
    outputs: tuple[JudgedOutput, ...] = ()
    pipeline: PipelineResult | None = None
    pipeline_step: StepResult | None = None
    cache: CacheResult | None = None
    cache_step: StepResult | None = None
    lost: str = ""
    source_error: SourceError | None = None


def migrate(
    trusted: Trusted,
    suite: Suite,
    build: TargetBuild,
    alone: Alone,
    device: DeviceSpec,
    plan: MigrationPlan,
    bundle: Path | None = None,
    log: MigrationLog | None = None,
    dump: IrDump = NO_DUMP,
    stage: Stage = SILENT,
    shared: Device | None = None,
    more_than: int = -1,
) -> Migrated:
    """Move units that pass alone to the device, and run the whole model after each move.

    Parameters
    ----------
    trusted
        The source and its outputs.
    suite
        Carved from it.
    build
        The units, built for the target.
    alone
        How they did; only those that pass are moved.
    device
        Where they run.
    plan
        How the boundary moves.
    bundle
        Where the last good step is written as a bundle; None for nowhere.
    log
        Where the steps are kept; None to begin anew.
    dump
        Gets the module after each pass that partitions the last good step.
    stage
        Shows the progress.
    shared
        The device of ``device.shared``, which it closes; None for one of its own.
    more_than
        The bundle is written where more units than that are on the device.

    Returns
    -------
    Migrated
        With ``lost`` where the device or the machine did not let it come to its end, and with
        ``source_error`` where the source did not: what was found so far is kept.
    """
    if plan.strategy is None or alone.lost:
        return Migrated(pipeline=_not_run(build))
    suite = suite.for_target(build.spec.target)
    batches = plan.batches(trusted.built.lowered, alone.passing)
    log = log or NoLog()
    strategy, reason = _strategy(plan, plan.strategy, batches, trusted, device, log)
    job = _Job(
        strategy, reason, batches, trusted, suite, build, alone, device, plan, log, dump, shared
    )
    return job.run(bundle, stage, more_than)


class _Job:
    """One migration: what its steps share."""

    def __init__(
        self,
        strategy: Strategy,
        reason: str,
        batches: Sequence[Sequence[MoveGroup]],
        trusted: Trusted,
        suite: Suite,
        build: TargetBuild,
        alone: Alone,
        device: DeviceSpec,
        plan: MigrationPlan,
        log: MigrationLog,
        dump: IrDump,
        shared: Device | None,
    ) -> None:
        self._trusted = trusted
        self._suite = suite
        self._build = build
        self._alone = alone
        self._spec = dataclasses.replace(device, avoided=(*device.avoided, *alone.suspects))
        self._plan = plan
        self._dump = dump
        self._strategy = strategy
        self._reason = reason
        self._log = log
        self._device = shared or self._spec.open(build)
        self._choices = SourceChoices(trusted.built.lowered.module)
        table = trusted.built.lowered.table
        self._migration = Migration(strategy, batches, table, self._log, reason)

    def run(self, bundle: Path | None, stage: Stage, more_than: int) -> Migrated:
        """Make the steps, write the bundle, and run the pipeline's module."""
        pipeline = _not_run(self._build)
        try:
            tolerances = self._tolerances(stage)
        except SourceError as error:
            return self._found((), pipeline=pipeline, source_error=error)
        names = [sample.name for sample in self._trusted.built.model.samples]
        outputs = tuple(judged_outputs(names, self._trusted.outputs, tolerances))
        trial = self._trial(tolerances)
        try:
            lost = self._steps(trial, stage)
            is_better = len(units_of(self._migration.sites)) > more_than
            self._write(bundle if is_better else None, trial, stage)
            if lost:
                return self._found(outputs, pipeline=pipeline, lost=lost)
            if pipeline is None:
                return self._with_cache(trial, outputs, stage)
            ran = self._pipeline_run(trial, stage)
        except SourceError as error:
            return self._found(outputs, pipeline=pipeline, source_error=error)
        finally:
            self._device.close()
        if isinstance(ran, str):
            return self._found(outputs, pipeline=pipeline, lost=ran)
        return self._found(outputs, pipeline=ran.result, pipeline_step=ran.step)

    def _with_cache(
        self, trial: Trial, outputs: tuple[JudgedOutput, ...], stage: Stage
    ) -> Migrated:
        """Run a model that has a KV cache with it on the device, and return what was found."""
        found = self._found(outputs)
        given = given_kernels(trial.sides.lowered)
        if not given:
            return found
        prepared, failed = self._build.prepared, self._build.kernels.failed
        units = [in_context(u, found.contexts.get(name)) for name, u in self._alone.units.items()]
        unpaired = [name for name in given if name in prepared.side.unjudged]
        is_whole = self._plan.boundary is None and self._plan.limit is None
        makers = kernel_receivers(trial.sides.lowered)
        # What never ran makes nothing that could be on the device.
        idle = {unit.name for unit in units if unit.reason.startswith(NEVER_CALLED)}
        makers = tuple(name for name in makers if name not in idle) or makers[:1]
        maker = makers[0]
        unjudged = [
            unit.name
            for unit in units
            if unit.verdict is not Verdict.PASS
            and not unit.verdict.is_wrong
            and unit.name not in makers
            and not unit.reason.startswith(NEVER_CALLED)
        ]
        stage.say(f"running the model with its {kept_text(maker)} on the device")
        # Use a fresh session: earlier steps may have corrupted device memory.
        self._device.close()
        try:
            step, result = judge_cache(
                trial,
                makers,
                {
                    "is wrong": culprits(units),
                    "has no kernel for the target": unpaired,
                    "does not build": [n for n in failed if n in given],
                    "may not all move, by --boundary or --limit": [] if is_whole else ["its sites"],
                },
                unjudged,
            )
        except (DeviceUnavailable, MachineError) as error:
            lost = f"the model was not run with its {kept_text(maker)} on the device: {error}"
            return dataclasses.replace(found, lost=lost)
        stage.say(f"with its {result.what} on the device: {result.verdict}")
        return dataclasses.replace(found, cache=result, cache_step=step)

    def _steps(self, trial: Trial, stage: Stage) -> str:
        """Make the steps; return why that stopped early, empty if it did not."""
        try:
            self._migration.run(trial, limit=self._plan.limit, stage=stage)
        except (DeviceUnavailable, MachineError) as error:
            done = count_text(len(self._migration.steps), "step")
            return f"the migration stopped after {done}: {error}"
        return ""

    def _tolerances(self, stage: Stage) -> list[list[Tolerance]]:
        moved = {group.unit for group in self._migration.groups.values()}
        return self._trusted.built.source.tolerances(
            self._suite, self._trusted.outputs, stage, moved=moved, choices=self._choices
        )

    def _trial(self, tolerances: list[list[Tolerance]]) -> Trial:
        built, build = self._trusted.built, self._build
        sides = BuiltSides(
            lowered=built.lowered.module,
            host_units=built.source.units,
            device_units=build.prepared.units,
            source=built.side.target,
            target=build.spec.target,
            host=built.source.host,
            library=build.library,
            device_kernels=build.kernels,
            poisoned=writing_all(self._suite.manifest),
            table=built.lowered.table,
        )
        return Trial(
            sides=sides,
            groups=self._migration.groups,
            device=self._device,
            model=built.model,
            oracles=self._trusted.outputs,
            tolerances=tolerances,
            repeat=self._spec.repeat,
            rerun_units=lambda units: replayed(
                self._suite, build, self._spec, repeat=ROUNDS, units=units, device=self._device
            ),
            exhaust=lambda calls: find_exhausting_unit(
                self._suite,
                calls,
                target=build.spec.target,
                device=self._device,
                device_pipeline=build.spec.pipeline,
                kernels=build.library.folder,
            ),
            choices=self._choices,
        )

    def _write(self, bundle: Path | None, trial: Trial, stage: Stage) -> None:
        """Write the last good step as a bundle."""
        migration, built = self._migration, self._trusted.built
        units = units_of(migration.sites)
        if bundle is not None:
            with self._dump.phase("partition"):
                program = trial.sides.partition(migration.sites)
            write_bundle(
                bundle,
                dataclasses.replace(program, boundary=migration.boundary),
                source=built.side.target,
                target=self._build.spec.target,
                host_kernels=built.source.kernels.files(),
                device_kernels=self._build.kernels.files(units),
                params=built.model.params,
            )
            self._log.keep_last_good(program.calls)
        shifts = [step.seconds.shift or 0.0 for step in migration.steps]
        median = f", median shift {statistics.median(shifts):.2f} s" if shifts else ""
        stage.say(
            f"{len(units)} of {len(self._alone.units)} units on the device after "
            f"{count_text(len(shifts), 'step')}{median}"
            + (f" ({self._strategy.name}: {self._reason})" if self._is_bisecting else "")
        )

    @property
    def _is_bisecting(self) -> bool:
        """Whether another strategy than usual was chosen."""
        return bool(self._reason) and self._strategy is not self._plan.strategy

    def _pipeline_run(self, trial: Trial, stage: Stage) -> PipelineRun | str:
        """Run the module that the target's pipeline returned, unless an earlier run has done so.

        Returns a sentence where the device or the machine does not let it be judged.
        """
        passes = self._build.prepared.passes
        assert passes is not None
        contexts = self._migration.contexts()
        units = [in_context(u, contexts.get(name)) for name, u in self._alone.units.items()]
        roots = unit_roots(passes.plain)
        wrong = {name: roots[name] for name in culprits(units) if name in roots}
        known = self._log.earlier_pipeline(wrong)
        if known is not None:
            return known
        name = self._build.spec.pipeline_name
        stage.say(f"running the module that {name!r} returned as a whole")
        # Use a fresh session: earlier steps may have corrupted device memory.
        self._device.close()
        try:
            step, result = judge_pipeline(
                PipelineTrial(trial=trial, passes=passes, wrong=wrong),
                self._build.prepared.side.changed,
            )
        except (DeviceUnavailable, MachineError) as error:
            return f"the module that {name!r} returned was not judged: {error}"
        ran = PipelineRun(step=step, result=result)
        self._log.add_pipeline(ran)
        stage.say(f"the module that {name!r} returned, run as a whole: {result.verdict}")
        return ran

    def _found(
        self,
        outputs: tuple[JudgedOutput, ...],
        *,
        pipeline: PipelineResult | None = None,
        pipeline_step: StepResult | None = None,
        lost: str = "",
        source_error: SourceError | None = None,
    ) -> Migrated:
        return Migrated(
            strategy=self._strategy.name,
            strategy_reason=self._reason,
            steps=tuple(self._migration.steps),
            contexts=self._migration.contexts(),
            outputs=outputs,
            pipeline=pipeline,
            pipeline_step=pipeline_step,
            lost=lost,
            source_error=source_error,
        )


def _strategy(
    plan: MigrationPlan,
    usual: Strategy,
    batches: Sequence[Sequence[MoveGroup]],
    trusted: Trusted,
    device: DeviceSpec,
    log: MigrationLog,
) -> tuple[Strategy, str]:
    """Return the strategy, and why it was chosen; empty where it was given.

    A choice of an earlier run stands: a resumed run goes on as it began, whatever it measures.
    """
    step_s = step_seconds(trusted.run_s * device.repeat, len(trusted.built.lowered.table))
    strategy, reason = fitting(usual, len(batches), step_s, plan.bisect_above_s)
    if not reason:
        return strategy, ""
    earlier = log.earlier_choice([[group.name for group in batch] for batch in batches])
    begun = None if earlier is None else strategy_named(earlier[0])
    return (strategy, reason) if earlier is None or begun is None else (begun, earlier[1])


def _not_run(build: TargetBuild) -> PipelineResult | None:
    """Return that a pipeline that changes Relax functions was not judged; None without one."""
    if build.prepared.passes is None:
        return None
    changed = build.prepared.side.changed
    reason = (
        f"what the device's pipeline changed in {', '.join(changed)} was not judged: the module "
        "that it returned has not been run on the device"
    )
    return PipelineResult(verdict=Verdict.SKIPPED, reason=reason, changed=changed)
