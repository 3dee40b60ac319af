"""The main job: carve a model on its source, replay on the target, migrate unit by unit."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.bringup.identity import module_identity, side_identity, source_identity
from relax_tapml.bringup.import_check import ImportCheck, check_document, import_document
from relax_tapml.bringup.judged_outputs import (
    JudgedOutput,
    blunt_outputs_text,
    judged_outputs,
)
from relax_tapml.bringup.options import Options
from relax_tapml.bringup.run_folder import RunFolder
from relax_tapml.bringup.trusted_source import Source
from relax_tapml.bringup.verified_suite import write_verified_suite
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.select.call_work import UnitWork
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.compare.repeat import ROUNDS
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, MachineError, SourceError, UsageError
from relax_tapml.files.machine import machine_told
from relax_tapml.files.replace import write_file
from relax_tapml.foreign.module import vouch_for_calls
from relax_tapml.foreign.own import remember
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.load import load_model
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.signature import check_model
from relax_tapml.migrate.built_sides import BuiltSides, units_of
from relax_tapml.migrate.choices import Choices
from relax_tapml.migrate.in_context import InContext
from relax_tapml.migrate.migration import Migration
from relax_tapml.migrate.move_groups import parts_in_groups
from relax_tapml.migrate.pipeline_finding import PipelineFinding, joined_verdict
from relax_tapml.migrate.pipeline_step import PipelineTrial, judge_pipeline
from relax_tapml.migrate.step import Step, Trial
from relax_tapml.migrate.strategy import StrategyName
from relax_tapml.partition.boundary import Boundary, read_boundary
from relax_tapml.partition.bundle import write_bundle
from relax_tapml.partition.device_side import device_side, unit_roots
from relax_tapml.partition.graph_passes import GraphPasses
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.lower import lower, lowering_notes, mark_inputs
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.partition.site_table import site_table
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.assign_sides import host_only_sites
from relax_tapml.progress import Reporter, SilentReporter, Stage
from relax_tapml.replay.endurance import find_exhausting_unit
from relax_tapml.replay.replay import ReplayReport, replay
from relax_tapml.report.findings import unjudged_text
from relax_tapml.report.page import render
from relax_tapml.report.quantities import count_text
from relax_tapml.results.run_result import (
    INCONCLUSIVE,
    Result,
    inconclusive_reason,
    overall_verdict,
    unit_document,
    unit_summary,
    unseen_document,
    without_explained,
    write_result,
)
from relax_tapml.suite.composite_units import units_run
from relax_tapml.suite.manifest import Manifest, writing_all
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.fleet.tracker import TrackerKey
from relax_tapml.targets.open_session import open_device
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.registry import platform_of

# What the state has of the replay.
_SHOWN = ("alone", "devices")


def bring_up(
    model: Model | str,
    *,
    out: Path | str,
    inputs: Sequence[Any] = (),
    texts: Sequence[str] = (),
    quantization: str | None = None,
    resume: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
    boundary: Boundary | Path | str | None = None,
    **options: Any,
) -> Result:
    """Find out which units of a model are wrong on a target, and migrate the others.

    The source is built and checked against the framework; every operator call is captured while
    it runs on the samples; captures become a pytest suite, which must pass on the source; each
    unit is replayed alone on the target; then units move to the device one by one, and after each
    the model's outputs are compared with the source's.

    Parameters
    ----------
    model
        A ``Model``, or what ``load_model`` takes.
    out
        Output folder: ``result.json``, ``report.html``, ``captures``, ``tests``, ``kernels``,
        ``bundle``.
    inputs
        Files or folders of samples; or samples themselves, each a sequence of arrays.
    texts
        Sentences, for text models.
    quantization
        Of a model ``mlc:CONFIG``; by default what its config says.
    resume
        Continue an interrupted run in ``out``; also after editing a kernel, when only what
        depends on it is done again.
    force
        Replace an earlier run in ``out``.
    reporter
        Who is told about progress.
    boundary
        Only these sites may move, or a ``boundary.json`` that names them; None for all that can.
    options
        The other fields of ``Options``.

    Returns
    -------
    Result
        ``verdict``, ``culprits`` and the whole document, as written to ``out/result.json``.

    Raises
    ------
    UsageError
        Model, target, inputs or output folder are not right.
    LoweringError
        The model or a pipeline cannot be compiled.
    SourceError
        The source crashes, or differs from the framework or from itself; ``result.json`` says so
        too, with what units did alone if that is known. Where culprits are known by then, the
        result tells them instead, with this as its reason.
    DeviceUnavailable
        No device session can be opened. Where that happens after units have been judged, the result
        is ``inconclusive`` instead, or tells the culprits so far; ``resume`` goes on.
    StoreError
        A file of an earlier run is damaged.
    MachineError
        The machine lacks room, memory, descriptors, rights or a compiler, which says nothing about
        the model; ``resume`` goes on. Where that happens after units have been judged, the result
        may be ``inconclusive`` instead, as above.
    """
    if isinstance(boundary, Path | str):
        boundary = read_boundary(boundary)
    chosen = Options(boundary=boundary, **options)
    run = _Run(chosen, reporter or SilentReporter())
    load = partial(_loaded, model, inputs, texts, quantization, chosen)
    with machine_told(f"running in {out}", Path(out)):
        return run.execute(load, Path(out), resume=resume, force=force)


class _Run:
    """The stages of one run, in order."""

    def __init__(self, options: Options, reporter: Reporter) -> None:
        self._options = options
        self._reporter = reporter
        self._began = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._steps: list[Step] = []
        self._captures: dict[str, int] = {}
        self._check: ImportCheck | None = None
        # Why the import is not known to be right, where the run goes on nevertheless.
        self._import_warning = ""
        self._uncarved: Mapping[str, str] = {}
        self._unproven: Mapping[str, str] = {}
        self._unseen: Mapping[str, dict[str, Any]] = {}
        self._seen_once: Mapping[str, list[dict[str, Any]]] = {}
        self._source_target = parse_target(options.source)
        self._target = parse_target(options.target)
        # What is not installed is told before minutes are spent.
        platform_of(self._target).check()
        self._host_pipeline = load_pipeline(options.host_pipeline)
        self._device_pipeline = load_pipeline(options.device_pipeline)
        self._contexts: dict[str, InContext] = {}
        self._passes: GraphPasses | None = None
        self._pipeline_step: Step | None = None
        self._finding: PipelineFinding | None = None
        self._devices: dict[str, dict[str, Any]] = {}
        # Why the run could not go on to its end; empty if it did.
        self._lost = ""
        self._outputs: list[JudgedOutput] = []
        # Why the source could not go on although units had been judged already; empty if it did.
        self._source_failure = ""
        self._device = open_device(options.session, self._target, timeout_s=options.timeout_s)

    def execute(
        self,
        load: Callable[[], Model],
        out: Path,
        *,
        resume: bool,
        force: bool,
    ) -> Result:
        # Told before minutes are spent; touched only once the request is known to make sense.
        with RunFolder(out, resume=resume, force=force) as self._folder:
            return self._executed(load)

    def _executed(self, load: Callable[[], Model]) -> Result:
        with self._stage("model", "lower") as stage:
            self._model = load()
            self._lower(stage)
        self._folder.begin()
        try:
            source, outputs = self._build_source()
            store = self._capture(source, outputs)
            self._carve(store)
            kernels, device_units = self._build_device()
        except SourceError as error:
            self._write_result([], verdict=INCONCLUSIVE, reason=str(error))
            raise
        try:
            alone = self._replay()
            try:
                self._migrate(source, outputs, kernels, device_units, alone)
            except SourceError as error:
                return self._finish_early(alone, error)
        finally:
            self._device.close()
        return self._finish(alone)

    def _finish_early(self, alone: dict[str, dict[str, Any]], error: SourceError) -> Result:
        """Keep what units did alone, and the steps so far, although the source cannot go on.

        Culprits were found on recorded inputs, against a suite that passes on the source.
        """
        self._source_failure = str(error)
        result = self._finish(alone)
        if not result.culprits:
            raise error
        return result

    def _lower(self, stage: Stage) -> None:
        model = self._model
        check_model(model)
        module = mark_inputs(model.module, model.params)
        self._lowered = lower(module)
        # The entry function first, in program order: a topological order of its units.
        self._table = sorted(
            site_table(self._lowered), key=lambda entry: entry.site.function != model.entry
        )
        self._sites = Counter(entry.site.unit for entry in self._table)
        self._host_only = host_only_sites(self._lowered)
        if self._options.boundary is not None:
            # A name the model does not have is told before anything is built.
            self._options.boundary.among(self._table)
        # What a pipeline asks for in vain is told before minutes are spent, too.
        self._side = device_side(self._lowered, self._target, self._device_pipeline)
        self._passes = self._graph_passes()
        # What the model calls its suite may call.
        vouch_for_calls(self._lowered)
        self._params_bytes = sum(array.nbytes for array in model.params.values())
        for note in lowering_notes(self._lowered):
            stage.say(note)
        stage.say(
            f"{model.name}: {len(self._sites)} units, {len(self._table)} sites, "
            f"{self._params_bytes / 1e6:.0f} MB of parameters"
        )

    def _build_source(self) -> tuple[Source, list[list[Array]]]:
        options = self._options
        self._library = KernelLibrary(self._folder.kernels)
        with self._stage("source", "build_kernels") as stage:
            stage.say(f"building kernels for {options.source}")
            units = lower_for_target(self._lowered, self._source_target, self._host_pipeline)
            kernels = self._library.build(units, self._source_target)
            self._folder.continue_source(
                source_identity(self._model, self._lowered, units, kernels)
            )
            self._write_own(self._folder.lowered, self._lowered)
            source = Source(self._model, units, self._source_target, kernels, self._library)
            stage.say("comparing with the framework")
            outputs = source.run(stage)
            self._check_import(source, outputs, stage)
        return source, outputs

    def _check_import(self, source: Source, outputs: list[list[Array]], stage: Stage) -> None:
        """Compare the source with the framework; raise ``SourceError`` if it disagrees."""
        options = self._options
        try:
            self._check = check = source.check_import(outputs, Choices(self._lowered))
        except SourceError as error:
            if options.is_import_checked:
                raise
            self._import_warning = str(error)
            stage.say(f"{options.source}; the framework's own run failed")
            return
        if check is None:
            stage.say(f"{options.source}; there is no framework output to compare with")
            return
        stage.say(f"{options.source} {check.agreement} (max abs {check.apart:.2g})")
        if check.verdict is Verdict.PASS:
            return
        if check.verdict is Verdict.INCONCLUSIVE:
            self._import_warning = (
                f"import of {self._model.name}: comparing with the framework says nothing: "
                f"{check.reason}"
            )
            return
        told = (
            f"import of {self._model.name}: the source build does not compute what the framework "
            f"does: {check.reason}"
        )
        if options.is_import_checked:
            raise SourceError(
                f"{told}. Nothing is said about {options.target}; look for an operator the "
                "importer or the host pipeline gets wrong, or go on nevertheless with "
                "--no-import-check"
            )
        self._import_warning = f"{told}. The run went on nevertheless: --no-import-check"

    def _capture(self, source: Source, outputs: list[list[Array]]) -> CaptureStore:
        with self._stage("capture", "capture") as stage:
            store = source.capture(self._folder.captures, outputs, stage)
            stats = store.stats()
            self._captures = {
                "calls": stats.calls,
                "bytes_stored": stats.disk_bytes,
                "bytes_seen": stats.seen_bytes,
            }
            stage.say(
                f"{len(self._table)} sites x {len(self._model.samples)} inputs: "
                f"{stats.disk_bytes / 1e6:.0f} MB stored, {stats.seen_bytes / 1e6:.0f} MB seen"
            )
        return store

    def _carve(self, store: CaptureStore) -> None:
        options = self._options
        with self._stage("carve", "carve") as stage:
            state = self._folder.state
            asked = [options.cases_per_unit, options.is_probed]
            if state.get("carved") != asked or not self._folder.tests.is_dir():
                calls = list(annotated_calls(self._lowered))
                sites = [site for site, _ in calls]
                work = UnitWork(self._lowered, {site.id: call for site, call in calls})
                cases = choose_cases(store, sites, options.cases_per_unit, work=work)
                stage.say(f"writing {len(cases)} cases")
                write_verified_suite(
                    self._folder.tests,
                    cases,
                    lowered=self._lowered,
                    store=store,
                    source=self._source_target,
                    pipeline=self._host_pipeline,
                    kernels=self._folder.kernels,
                    is_probed=options.is_probed,
                    on_written=lambda manifest: stage.say(
                        f"replaying {_case_counts(manifest)} on {options.source}"
                    ),
                )
                state["carved"] = asked
                self._folder.save()
            manifest = open_suite(self._folder.tests).manifest
            self._uncarved = manifest.skipped_sites
            self._unproven = manifest.dropped_probes
            self._unseen = {name: unseen_document(unit) for name, unit in manifest.units.items()}
            self._seen_once = {
                name: [dataclasses.asdict(dim) for dim in unit.dims_seen_once]
                for name, unit in manifest.units.items()
            }
            stage.say(
                f"{len(manifest.units)} units, {_case_counts(manifest)}; all pass on "
                f"{options.source}"
            )

    def _build_device(self) -> tuple[KernelSet, tvm.IRModule]:
        options = self._options
        with self._stage("kernels", "build_kernels") as stage:
            units = self._side.units
            if self._passes is not None:
                self._passes.check(self._library)
            kernels = self._library.build(units, self._target)
            # Where a failing kernel is found afterwards, whatever its pipeline needs to be run.
            self._write_own(self._folder.device_side, units)
            stage.say(
                f"{len(kernels.paths)} of {len(kernels.paths) + len(kernels.failed)} units build "
                f"for {options.target}, "
                f"{len(kernels.built)} of their kernels anew"
            )
        identity = {
            "target": str(self._target),
            "session": options.session,
            "tool": importlib.metadata.version("relax-tapml"),
            "device": side_identity(units, kernels),
            "failed": kernels.failed,
            "cases_per_unit": options.cases_per_unit,
            "is_probed": options.is_probed,
            "repeat": options.repeat,
        }
        if self._side.graph is not None:
            identity["pipeline"] = module_identity(self._side.graph)
        self._state = self._folder.continue_device(identity)
        return kernels, units

    def _write_own(self, path: Path, module: tvm.IRModule) -> None:
        """Write a module, and note that it is ours: a pipeline's kernels may call anything."""
        text = tvm.ir.save_json(module)
        remember(text.encode())
        write_file(path, text)

    def _graph_passes(self) -> GraphPasses | None:
        """Return the passes of a pipeline that changes Relax functions, None if it does not."""
        pipeline, side = self._device_pipeline, self._side
        if pipeline is None or side.graph is None:
            return None
        if self._options.boundary is not None:
            raise UsageError(
                f"--boundary: device pipeline {pipeline.info.name!r} changes "
                f"{', '.join(side.changed)}, so the whole module must be run on the device, which "
                "a boundary forbids. Run without it, or with a pipeline that changes kernels only"
            )
        passes = GraphPasses(self._lowered, self._target, pipeline)
        passes.check_interfaces()
        return passes

    def _replay(self) -> dict[str, dict[str, Any]]:
        """Run each unit alone on the device; return what it showed, unit by unit in order."""
        with self._stage("replay", "replay") as stage:
            shown = {name: self._state[name] for name in _SHOWN if name in self._state}
            if shown.get("alone", {}).keys() != self._sites.keys():
                report = self._replayed(repeat=self._options.repeat, is_spread=True)
                details, devices = report.details, report.devices
                shown["alone"] = {unit: unit_summary(detail) for unit, detail in details.items()}
                shown["devices"] = {name: dataclasses.asdict(one) for name, one in devices.items()}
                self._lost = unjudged_text(report.unjudged, report.unavailable)
                if not self._lost:
                    self._state.update(shown)
                    self._folder.save()
            self._devices = shown.get("devices", {})
            self._avoid_suspects()
            alone: dict[str, dict[str, Any]] = {unit: shown["alone"][unit] for unit in self._sites}
            passed = sum(summary["verdict"] == Verdict.PASS for summary in alone.values())
            count = len(self._devices)
            spread = f" ({count} devices)" if count > 1 else ""
            stage.say(
                f"{passed} of {len(alone)} units pass alone on {self._options.target}{spread}"
            )
        return alone

    def _avoid_suspects(self) -> None:
        """Keep the rest of the run off devices that gave wrong answers."""
        suspects = [name for name, record in self._devices.items() if record["suspect"]]
        if suspects:
            self._device.close()
            options = self._options
            self._device = open_device(
                options.session, self._target, timeout_s=options.timeout_s, avoided=suspects
            )

    def _replayed(
        self, *, repeat: int, units: Sequence[str] | None = None, is_spread: bool = False
    ) -> ReplayReport:
        """Replay units on the device of the run, or spread over all that its tracker has free."""
        options = self._options
        is_fleet = is_spread and TrackerKey.parse(options.session) is not None
        return replay(
            self._folder.tests,
            target=self._target,
            session=options.session,
            timeout_s=options.timeout_s,
            device_pipeline=self._device_pipeline,
            side=None if self._device_pipeline is None else self._side,
            kernels=self._folder.kernels,
            units=units,
            repeat=repeat,
            device=None if is_fleet else self._device,
        )

    def _migrate(
        self,
        source: Source,
        outputs: list[list[Array]],
        kernels: KernelSet,
        device_units: tvm.IRModule,
        alone: dict[str, dict[str, Any]],
    ) -> None:
        options = self._options
        if options.strategy is StrategyName.ISOLATED or self._lost:
            self._finding = self._unjudged_pipeline()
            return
        groups = parts_in_groups(self._table, options.by, self._movable(alone))
        migration = Migration(options.strategy, groups, self._table, self._folder, self._state)
        self._steps = migration.steps
        # What units left behind in their replay must not be taken for the doing of a step.
        self._device.close()
        suite = open_suite(self._folder.tests, self._target)
        with self._stage("migrate", "migrate") as stage:
            sides = BuiltSides(
                lowered=self._lowered,
                host_units=source.units,
                device_units=device_units,
                source=self._source_target,
                target=self._target,
                host=source.host,
                library=self._library,
                device_kernels=kernels,
                poisoned=writing_all(suite.manifest),
            )
            choices = Choices(self._lowered)
            tolerances = source.tolerances(
                suite,
                outputs,
                stage,
                moved={part.unit for part in migration.parts.values()},
                choices=choices,
            )
            names = [sample.name for sample in self._model.samples]
            self._outputs = judged_outputs(names, outputs, tolerances)
            trial = Trial(
                sides=sides,
                parts=migration.parts,
                device=self._device,
                model=self._model,
                oracles=outputs,
                tolerances=tolerances,
                repeat=options.repeat,
                rerun_units=lambda units: self._replayed(repeat=ROUNDS, units=units),
                exhaust=lambda calls: find_exhausting_unit(
                    self._folder.tests,
                    calls,
                    target=self._target,
                    device=self._device,
                    device_pipeline=self._device_pipeline,
                    kernels=self._folder.kernels,
                ),
                choices=choices,
            )
            try:
                migration.run(trial, limit=options.move_limit, stage=stage)
            except SourceError:
                self._contexts = migration.contexts()
                raise
            except (DeviceUnavailable, MachineError) as error:
                done = count_text(len(migration.steps), "step")
                self._lost = f"the migration stopped after {done}: {error}"
            sites, units = migration.sites, units_of(migration.sites)
            write_bundle(
                self._folder.bundle,
                dataclasses.replace(sides.partition(sites), boundary=migration.boundary),
                source=self._source_target,
                target=self._target,
                host_kernels=source.kernels.files(),
                device_kernels=kernels.files(units),
                params=self._model.params,
            )
            self._contexts = migration.contexts()
            shift = statistics.median(step.shift_s for step in migration.steps)
            stage.say(
                f"{len(units)} of {len(alone)} units on the device after "
                f"{count_text(len(migration.steps), 'step')}, median shift {shift:.2f} s"
            )
            if not self._lost:
                self._judge_pipeline(trial, alone, stage)

    def _judge_pipeline(
        self, trial: Trial, alone: Mapping[str, Mapping[str, Any]], stage: Stage
    ) -> None:
        """Run the module that the device's pipeline returned, if it changed Relax functions."""
        if self._passes is None:
            return
        accused = overall_verdict(self._documents(alone))[1]
        roots = unit_roots(self._passes.plain)
        wrong = {unit: roots[unit] for unit in accused if unit in roots}
        known = self._state.get("pipeline")
        if known is not None and known["finding"]["restored"] == list(wrong):
            self._pipeline_step = Step.from_document(known["step"])
            self._finding = PipelineFinding.from_document(known["finding"])
            return
        name = self._passes.pipeline.info.name
        stage.say(f"running the module that {name!r} returned as a whole")
        # What a step left behind must not be taken for the doing of the pipeline.
        self._device.close()
        try:
            step, finding = judge_pipeline(
                PipelineTrial(trial=trial, passes=self._passes, wrong=wrong), self._side.changed
            )
        except (DeviceUnavailable, MachineError) as error:
            self._lost = f"the module that {name!r} returned was not judged: {error}"
            return
        self._pipeline_step, self._finding = step, finding
        self._state["pipeline"] = {"step": step.document(), "finding": finding.document()}
        self._folder.save()
        stage.say(f"the module that {name!r} returned, run as a whole: {finding.verdict}")

    def _unjudged_pipeline(self) -> PipelineFinding | None:
        """Say that nothing is known of a pipeline that changed Relax functions."""
        if self._passes is None:
            return None
        changed = ", ".join(self._side.changed)
        reason = (
            f"what the device's pipeline changed in {changed} was not judged: the model has not "
            "been run on the device"
        )
        return PipelineFinding(verdict=Verdict.SKIPPED, reason=reason, changed=self._side.changed)

    def _movable(self, alone: dict[str, dict[str, Any]]) -> set[str]:
        """Sites whose unit passes alone, and which may and shall leave the host."""
        asked = self._options.boundary
        chosen = None if asked is None else asked.among(self._table)
        return {
            entry.site.id
            for entry in self._table
            if alone[entry.site.unit]["verdict"] == Verdict.PASS
            and entry.site.id not in self._host_only
            and (chosen is None or entry.site.id in chosen)
        }

    def _documents(self, alone: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [
            unit_document(
                name,
                {**summary, **self._unseen.get(name, {})},
                self._contexts.get(name),
                sites=[entry for entry in self._table if entry.site.unit == name],
                seen_once=self._seen_once.get(name, []),
            )
            for name, summary in alone.items()
        ]

    def _finish(self, alone: dict[str, dict[str, Any]]) -> Result:
        units = self._documents(alone)
        _, accused = overall_verdict(units)
        if accused:
            units = without_explained(units, units_run(open_suite(self._folder.tests), accused))
        verdict, culprits = overall_verdict(units)
        reason = inconclusive_reason(units) if verdict == INCONCLUSIVE else ""
        blunt = blunt_outputs_text(self._outputs)
        if blunt:
            # The units are judged alone all the same: a run of sharp ones passes, with this said.
            reason = "; ".join(filter(None, (reason, blunt)))
        verdict, culprits, reason = joined_verdict(verdict, culprits, reason, self._finding)
        worn_out = [step.session for step in self._steps if step.session]
        if worn_out and not culprits:
            verdict, reason = INCONCLUSIVE, worn_out[0]
        if self._lost:
            verdict = verdict if culprits else INCONCLUSIVE
            reason = f"{self._lost.rstrip('.')}. Continue with --resume"
        if self._source_failure:
            verdict = verdict if culprits else INCONCLUSIVE
            reason = f"the migration stopped: {self._source_failure}"
        result = self._write_result(units, verdict=verdict, reason=reason)
        render(result.document, out=self._folder.path)
        return result

    def _write_result(self, units: list[dict[str, Any]], *, verdict: str, reason: str) -> Result:
        options = self._options
        names = ("lower", "build_kernels", "capture", "carve", "replay", "migrate")
        seconds = {name: self._seconds.get(name, 0.0) for name in names}
        document: dict[str, Any] = {
            "verdict": verdict,
            "reason": reason,
            "culprits": [*overall_verdict(units)[1], *self._wrong_passes()],
            "units": units,
            "outputs": [output.document() for output in self._outputs],
            "steps": [
                step.document() for step in (*self._steps, self._pipeline_step) if step is not None
            ],
            "pipeline": None if self._finding is None else self._finding.document(),
            "skipped": self._skipped(units),
            "unproven": dict(self._unproven),
            "seconds": {**seconds, "total": time.perf_counter() - self._began},
            "model": {
                "name": self._model.name,
                "units": len(self._sites),
                "sites": len(self._table),
                "parameters_bytes": self._params_bytes,
                "samples": len(self._model.samples),
            },
            "source": options.source,
            "target": options.target,
            "session": options.session,
            "devices": self._devices if units else {},
            "strategy": str(options.strategy),
            "by": str(options.by),
            "device_pipeline": _told(options.device_pipeline),
            "host_pipeline": _told(options.host_pipeline),
            "captures": self._captures,
            "import_check": check_document(self._check),
            "import": import_document(self._check, self._import_warning),
            "lowering_notes": lowering_notes(self._lowered),
        }
        return write_result(self._folder.path, document)

    def _wrong_passes(self) -> list[str]:
        return [] if self._finding is None else self._finding.culprits

    def _skipped(self, units: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Return every site that was not compared, or cannot leave the host, with the reason."""
        reasons = {u["name"]: u["reason"] for u in units if u["verdict"] == Verdict.SKIPPED}
        skipped = {
            site.id: reasons[site.unit]
            for site, _ in annotated_calls(self._lowered)
            if site.unit in reasons
        }
        skipped.update(self._uncarved)
        skipped.update(self._host_only)
        return [{"site": site, "reason": reason} for site, reason in skipped.items()]

    @contextmanager
    def _stage(self, title: str, key: str) -> Iterator[Stage]:
        began = time.perf_counter()
        try:
            with self._reporter.stage(title) as stage:
                yield stage
        finally:
            spent = time.perf_counter() - began
            self._seconds[key] = self._seconds.get(key, 0.0) + spent


def _loaded(
    model: Model | str,
    inputs: Sequence[Any],
    texts: Sequence[str],
    quantization: str | None,
    options: Options,
) -> Model:
    if isinstance(model, str):
        paths = [Path(path) for path in inputs]
        return load_model(
            model,
            inputs=paths,
            texts=texts,
            quantization=quantization,
            source=options.source,
            trust=options.trust,
        )
    if texts:
        raise UsageError("texts are for text models; give a Model samples instead")
    if quantization is not None:
        raise UsageError("quantization is for a model mlc:CONFIG; a Model has its own")
    if not inputs:
        return model
    return dataclasses.replace(model, samples=as_samples(inputs))


def _case_counts(manifest: Manifest) -> str:
    cases = [case for unit in manifest.units.values() for case in unit.cases]
    probes = sum(case.is_probe for case in cases)
    told = [f"{len(cases) - probes} cases"]
    if probes:
        told.append(f"{probes} probes")
    if manifest.dropped_probes:
        told.append(f"{len(manifest.dropped_probes)} probes left out, result.json tells why")
    return ", ".join(told)


def _told(pipeline: str | tvm.transform.Pass | None) -> str | None:
    if pipeline is None or isinstance(pipeline, str):
        return pipeline
    return str(pipeline.info.name)
