"""The main job: carve a model on its source, replay on the target, migrate unit by unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from relax_tapml.bringup._capture_notes import require_plan
from relax_tapml.bringup._failing_kernels import write_failing_kernels
from relax_tapml.bringup._import_fault import find_import_fault
from relax_tapml.bringup._plan import Planner
from relax_tapml.bringup._stage_clock import StageClock
from relax_tapml.bringup.alone import alone_text, replay_alone
from relax_tapml.bringup.carved_suite import capture, carve, suite_text
from relax_tapml.bringup.ir_dump import IrDump
from relax_tapml.bringup.lowered_model import lower_model, lowered_text
from relax_tapml.bringup.migrate_model import migrate
from relax_tapml.bringup.options import OptionFields, Options
from relax_tapml.bringup.repair_stage import repair_failing
from relax_tapml.bringup.run_folder import RunFolder
from relax_tapml.bringup.stored_weights import free_memory, with_stored_weights
from relax_tapml.bringup.summary import Findings, failing_units, summarise
from relax_tapml.bringup.target_build import build_target, prepare_target, target_kernels
from relax_tapml.bringup.trusted_source import build_source, trust_source
from relax_tapml.errors import SourceError, UsageError
from relax_tapml.files.machine import machine_errors
from relax_tapml.frontend.drives import with_drive
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.model import Model
from relax_tapml.progress import Reporter, SilentReporter
from relax_tapml.report.page import render
from relax_tapml.report.quantities import seconds_text
from relax_tapml.results.result_file import write_result
from relax_tapml.results.run_result import RunResult
from relax_tapml.suite.note_target import note_target


def bring_up(
    model: Model | str,
    *,
    out: Path | str,
    inputs: Sequence[Any] = (),
    texts: Sequence[str] = (),
    quantization: str | None = None,
    dims: Mapping[str, Sequence[int]] | None = None,
    drive: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
    options: Options | None = None,
    **fields: Unpack[OptionFields],
) -> RunResult:
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
        Of a model ``mlc:CONFIG``; by default that of its config.
    dims
        Sizes of dimensions that a ``model.onnx`` or ``model.tflite`` leaves open, by name.
    drive
        Names of the scenarios by which a decoder with a paged KV cache is run, or one
        ``package.module:function`` in place of ``Model.drive``.
    resume
        Continue an interrupted run in ``out``; also after editing a kernel, when only what
        depends on it is done again.
    force
        Replace an earlier run in ``out``.
    reporter
        Shows the progress.
    options, fields
        What the run is to do: ``Options``, or fields of it by name; fields replace those of
        ``options``.

    Returns
    -------
    RunResult
        As written to ``out/result.json``.

    Raises
    ------
    UsageError
        Model, target, inputs or output folder are not right.
    LoweringError
        The model or a pipeline cannot be compiled.
    SourceError
        The source crashes, or differs from the framework or from itself; ``result.json`` has the
        reason too, with what units did alone if that is known. Where culprits are known by then,
        the result names them instead, with this as its reason.
    DeviceUnavailable
        No device session can be opened. Where that happens after units have been judged, the result
        is ``inconclusive`` instead, or has the culprits so far; ``resume`` goes on.
    StoreError
        A file of an earlier run is damaged.
    MachineError
        The machine lacks room, memory, descriptors, rights or a compiler, which is not about
        the model; ``resume`` goes on. Where that happens after units have been judged, the result
        may be ``inconclusive`` instead, as above.
    """
    options = (options or Options()).changed(fields)
    load = partial(_driven, model, inputs, texts, quantization, dims, drive, options)
    clock = StageClock(reporter or SilentReporter())
    with (
        machine_errors(f"running in {out}", Path(out)),
        # Locked at once, changed only when the request is known to make sense.
        RunFolder(Path(out), resume=resume, force=force) as folder,
    ):
        return run_stages(load, options, folder, clock)


def run_stages(
    load: Callable[[], Model], options: Options, folder: RunFolder, clock: StageClock
) -> RunResult:
    """Run the stages in order; what an earlier run left in the folder is taken over."""
    source, target, dump = *options.sides(), IrDump(options.dump_ir)
    with clock.stage("model") as stage:
        with clock.loading():
            model = load()
        lowered = lower_model(model, options.boundary, dump, stage)
        kernels = target_kernels(model, lowered, source, target, stage)
        prepared = prepare_target(lowered, target, options.boundary, dump, kernels)
        stage.say(f"{lowered_text(model, lowered)}, loaded in {seconds_text(clock.seconds.load)}")
    folder.begin()
    require_plan(folder.captures, options.capturing)
    found = Findings(model=model, lowered=lowered, kernels=kernels)
    with clock.stage("plan") as stage:
        planner = Planner(model, lowered, source, target, options.plan, options.repeat)
        clock.expect(planner.plan(), stage)
    try:
        with clock.stage("source") as stage:
            built = build_source(model, lowered, source, folder.kernels, dump, stage)
            folder.continue_source(built.identity, lowered.module)
            trusted = found.trusted = trust_source(built, options.is_import_checked, stage)
            trusted = found.trusted = find_import_fault(
                trusted, folder.import_faults, folder.kernels, stage
            )
            trusted.require(options.target)
        with clock.stage("plan") as stage:
            is_carved = folder.is_carved(options.carving)
            clock.expect(planner.plan(trusted.measured, is_carved=is_carved), stage)
        with clock.stage("capture") as stage:
            store = found.store = capture(trusted, folder.captures, dump, stage, options.capturing)
            trusted = found.trusted = with_stored_weights(trusted, store)
            found.model = trusted.built.model
            del model, built, planner  # The framework's weights go with them.
            free_memory(store)
        with clock.stage("carve") as stage:
            suite = folder.suite(options.carving) or carve(
                store, lowered, source, folder.tests, folder.kernels, options.carving, stage
            )
            suite = found.suite = note_target(suite, target.target, kernels)
            folder.keep_carved(options.carving)
            stage.say(suite_text(suite, source))
        with clock.stage("kernels") as stage:
            build = build_target(prepared, folder.kernels, stage)
            folder.continue_device({**build.identity, **options.judging}, prepared.units)
    except SourceError as error:
        found.estimate = clock.estimate
        result = summarise(found, options, clock.seconds, folder.path, str(error))
        write_result(folder.path, result)
        render(result, out=folder.path)
        raise
    with options.device.shared(build) as device:
        with clock.stage("replay") as stage:
            alone = found.alone = folder.alone(lowered.units) or replay_alone(
                suite, build, options.device, stage, device
            )
            folder.keep_alone(alone)
            stage.say(alone_text(alone, build))
        with clock.stage("migrate") as stage:
            migrated = found.migrated = migrate(
                trusted, suite, build, alone, options.device, options.plan,
                folder.bundle, folder, dump, stage, device,
            )  # fmt: skip
        failing = failing_units(found) if options.repair else []
        if failing:
            with clock.stage("repair") as stage:
                found.repaired = repair_failing(
                    trusted, suite, build, alone, migrated, failing, options.device, options.plan,
                    options.repair_budget_s, folder, stage, device,
                )  # fmt: skip
    found.estimate = clock.estimate
    result = summarise(found, options, clock.seconds, folder.path)
    write_result(folder.path, result)
    write_failing_kernels(result, build, folder.path)
    render(result, out=folder.path)
    if migrated.source_error is not None and not result.culprits:
        raise migrated.source_error
    return result


def _driven(
    model: Model | str,
    inputs: Sequence[Any],
    texts: Sequence[str],
    quantization: str | None,
    dims: Mapping[str, Sequence[int]] | None,
    drive: Sequence[str],
    options: Options,
) -> Model:
    return with_drive(_loaded(model, inputs, texts, quantization, dims, options), drive)


def _loaded(
    model: Model | str,
    inputs: Sequence[Any],
    texts: Sequence[str],
    quantization: str | None,
    dims: Mapping[str, Sequence[int]] | None,
    options: Options,
) -> Model:
    if isinstance(model, str):
        paths = [Path(path) for path in inputs]
        return load_model(
            model,
            inputs=paths,
            texts=texts,
            quantization=quantization,
            dims=dims,
            source=options.source,
            trust=options.trust,
        )
    if texts:
        raise UsageError("texts are for text models; give a Model samples instead")
    if quantization is not None:
        raise UsageError("quantization is for a model mlc:CONFIG; a Model has its own")
    if dims:
        raise UsageError("dims are for a model.onnx; give them to from_onnx, or a Model samples")
    if not inputs:
        return model
    return dataclasses.replace(model, samples=as_samples(inputs))
