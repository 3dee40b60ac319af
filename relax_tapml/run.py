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

from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.choose import choose_cases
from relax_tapml.carve.explained import units_run
from relax_tapml.carve.manifest import Manifest
from relax_tapml.carve.open_suite import open_suite
from relax_tapml.carve.proven_suite import write_proven_suite
from relax_tapml.carve.replay import ReplayReport, replay
from relax_tapml.compare.comparison import Comparison
from relax_tapml.compare.repeat import ROUNDS
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, SourceError, UsageError
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.load import load_model
from relax_tapml.frontend.model import Array, Model
from relax_tapml.frontend.signature import check_model
from relax_tapml.migrate.choices import Choices
from relax_tapml.migrate.company import Company
from relax_tapml.migrate.identity import side_identity, source_identity
from relax_tapml.migrate.migration import Migration
from relax_tapml.migrate.options import Options
from relax_tapml.migrate.parts import parts_in_groups
from relax_tapml.migrate.reporter import Reporter, SilentReporter, Stage
from relax_tapml.migrate.result import (
    INCONCLUSIVE,
    Result,
    check_document,
    inconclusive_reason,
    overall_verdict,
    unit_document,
    unit_summary,
    without_explained,
    write_result,
)
from relax_tapml.migrate.run_folder import RunFolder, write_atomically
from relax_tapml.migrate.sides import Sides, units_of
from relax_tapml.migrate.source import Source
from relax_tapml.migrate.step import Step, Trial
from relax_tapml.migrate.strategy import StrategyName
from relax_tapml.partition.boundary import Boundary, read_boundary
from relax_tapml.partition.bundle import write_bundle
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.lower import lower, lowering_notes, mark_inputs
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.partition.prepare_side import prepare_side
from relax_tapml.partition.site_table import site_table
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.assign_sides import host_only_sites
from relax_tapml.report.findings import unjudged_text
from relax_tapml.report.page import render
from relax_tapml.report.quantities import count_text
from relax_tapml.targets.open import open_device
from relax_tapml.targets.registry import platform_of
from relax_tapml.targets.target import parse_target
from relax_tapml.targets.tracker import TrackerKey

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
        The source differs from the framework or from itself; ``result.json`` says so too.
    DeviceUnavailable
        No device session can be opened. Where that happens after units have been judged, the result
        is ``inconclusive`` instead, or tells the culprits so far; ``resume`` goes on.
    StoreError
        A file of an earlier run is damaged.
    """
    if isinstance(boundary, Path | str):
        boundary = read_boundary(boundary)
    chosen = Options(boundary=boundary, **options)
    run = _Run(chosen, reporter or SilentReporter())
    load = partial(_loaded, model, inputs, texts, quantization, chosen.source)
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
        self._check: Comparison | None = None
        self._uncarved: Mapping[str, str] = {}
        self._unproven: Mapping[str, str] = {}
        self._source_target = parse_target(options.source)
        self._target = parse_target(options.target)
        # What is not installed is told before minutes are spent.
        platform_of(self._target).check()
        self._host_pipeline = load_pipeline(options.host_pipeline)
        self._device_pipeline = load_pipeline(options.device_pipeline)
        self._companies: dict[str, Company] = {}
        self._devices: dict[str, dict[str, Any]] = {}
        # Why the run could not go on to its end; empty if it did.
        self._lost = ""
        self._device = open_device(options.session, self._target, timeout_s=options.timeout_s)

    def execute(
        self,
        load: Callable[[], Model],
        out: Path,
        *,
        resume: bool,
        force: bool,
    ) -> Result:
        with self._stage("model", "lower") as stage:
            self._model = load()
            # The folder is touched only once the request is known to make sense.
            self._folder = RunFolder(out, resume=resume, force=force)
            self._lower(stage)
        try:
            source, outputs = self._build_source()
            store = self._capture(source, outputs)
            self._carve(store)
            kernels, device_units = self._build_device()
            try:
                alone = self._replay()
                self._migrate(source, outputs, kernels, device_units, alone)
            finally:
                self._device.close()
        except SourceError as error:
            self._write_result([], verdict=INCONCLUSIVE, reason=str(error))
            raise
        return self._finish(alone)

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
        write_atomically(self._folder.lowered, tvm.ir.save_json(self._lowered))
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
            units = prepare_side(self._lowered, self._source_target, self._host_pipeline)
            kernels = self._library.build(units, self._source_target)
            self._folder.continue_source(
                source_identity(self._model, self._lowered, units, kernels)
            )
            source = Source(self._model, units, self._source_target, kernels, self._library)
            stage.say("comparing with the framework")
            outputs = source.run(stage)
            check = source.check_import(outputs, Choices(self._lowered))
            self._check = check
            if check is None:
                stage.say(f"{options.source}; there is no framework output to compare with")
            else:
                agrees = check.verdict is not Verdict.MISMATCH
                word = "agrees" if agrees else "DISAGREES"
                if not check.total:
                    word = "cannot be compared"
                ties = f"; {check.ties} values are another choice of a tie" if check.ties else ""
                stage.say(
                    f"{options.source} {word} with the framework "
                    f"(max abs {check.max_abs:.2g}{ties})"
                )
                if not agrees:
                    raise SourceError(
                        f"import of {self._model.name}: the source build does not compute what the "
                        f"framework does: {check.reason}. Nothing is said about "
                        f"{options.target}; look for an operator the importer or the host "
                        "pipeline gets wrong"
                    )
        return source, outputs

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
                sites = [site for site, _ in annotated_calls(self._lowered)]
                cases = choose_cases(store, sites, options.cases_per_unit)
                stage.say(f"writing {len(cases)} cases")
                write_proven_suite(
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
            self._unproven = manifest.unproven
            stage.say(
                f"{len(manifest.units)} units, {_case_counts(manifest)}; all pass on "
                f"{options.source}"
            )

    def _build_device(self) -> tuple[KernelSet, tvm.IRModule]:
        options = self._options
        with self._stage("kernels", "build_kernels") as stage:
            units = prepare_side(self._lowered, self._target, self._device_pipeline)
            kernels = self._library.build(units, self._target)
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
        self._state = self._folder.continue_device(identity)
        return kernels, units

    def _replay(self) -> dict[str, dict[str, Any]]:
        """Run each unit alone on the device; return what it showed, unit by unit in order."""
        with self._stage("replay", "replay") as stage:
            shown = {name: self._state[name] for name in _SHOWN if name in self._state}
            if not shown:
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
            return
        groups = parts_in_groups(self._table, options.by, self._movable(alone))
        migration = Migration(options.strategy, groups, self._table, self._folder, self._state)
        self._steps = migration.steps
        # What units left behind in their replay must not be taken for the doing of a step.
        self._device.close()
        with self._stage("migrate", "migrate") as stage:
            sides = Sides(
                lowered=self._lowered,
                host_units=source.units,
                device_units=device_units,
                source=self._source_target,
                target=self._target,
                host=source.host,
                library=self._library,
                device_kernels=kernels,
            )
            choices = Choices(self._lowered)
            trial = Trial(
                sides=sides,
                parts=migration.parts,
                device=self._device,
                model=self._model,
                oracles=outputs,
                tolerances=source.tolerances(
                    open_suite(self._folder.tests, self._target), outputs, stage, choices
                ),
                repeat=options.repeat,
                vote=lambda units: self._replayed(repeat=ROUNDS, units=units),
                choices=choices,
            )
            try:
                migration.run(trial, limit=options.move_limit, stage=stage)
            except DeviceUnavailable as error:
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
            self._companies = migration.companies()
            shift = statistics.median(step.shift_s for step in migration.steps)
            stage.say(
                f"{len(units)} of {len(alone)} units on the device after "
                f"{count_text(len(migration.steps), 'step')}, median shift {shift:.2f} s"
            )

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

    def _finish(self, alone: dict[str, dict[str, Any]]) -> Result:
        units = [
            unit_document(
                name,
                summary,
                self._companies.get(name),
                sites=[entry for entry in self._table if entry.site.unit == name],
            )
            for name, summary in alone.items()
        ]
        _, accused = overall_verdict(units)
        if accused:
            units = without_explained(units, units_run(open_suite(self._folder.tests), accused))
        verdict, culprits = overall_verdict(units)
        reason = inconclusive_reason(units) if verdict == INCONCLUSIVE else ""
        if self._lost:
            verdict = verdict if culprits else INCONCLUSIVE
            reason = f"{self._lost.rstrip('.')}. Continue with --resume"
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
            "culprits": overall_verdict(units)[1],
            "units": units,
            "steps": [step.document() for step in self._steps],
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
            "lowering_notes": lowering_notes(self._lowered),
        }
        return write_result(self._folder.path, document)

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
    source: str,
) -> Model:
    if isinstance(model, str):
        paths = [Path(path) for path in inputs]
        return load_model(
            model, inputs=paths, texts=texts, quantization=quantization, source=source
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
    if manifest.unproven:
        told.append(f"{len(manifest.unproven)} probes left out that the source itself fails")
    return ", ".join(told)


def _told(pipeline: str | tvm.transform.Pass | None) -> str | None:
    if pipeline is None or isinstance(pipeline, str):
        return pipeline
    return str(pipeline.info.name)
