"""The trusted side: built once, checked against the framework, captured."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import tvm

from relax_tapml.arrays import Array, are_same_arrays
from relax_tapml.bringup._capture_notes import CaptureNotes, left_out, require_plan
from relax_tapml.bringup._capture_room import require_room
from relax_tapml.bringup._capture_size import FunctionCall
from relax_tapml.bringup._import_check import ImportCheck, check_import
from relax_tapml.bringup._sampled_capture import sampled_capture
from relax_tapml.bringup._source_runs import SourceRuns
from relax_tapml.bringup._watched_calls import both, noting
from relax_tapml.bringup.capture_plan import ALL, CapturePlan
from relax_tapml.bringup.ir_dump import NO_DUMP, IrDump
from relax_tapml.capture.index import INDEX_FILE
from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import SiteRecord
from relax_tapml.carve.sensitivity import RUNS, noise, noise_levels, output_tolerances
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError, SourceError
from relax_tapml.frontend.model import Model
from relax_tapml.migrate.choices import SourceChoices
from relax_tapml.partition.derived_weights import derivations
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.passes.replace_choices import ReplaceChoices
from relax_tapml.processes.fork import ForkChannel, Message
from relax_tapml.progress import SILENT, Stage
from relax_tapml.results.json_codec import decode, encode
from relax_tapml.suite.open_suite import Suite

_DIFFERENT = (
    "sample {name!r}: two runs of the source gave different outputs. A source must repeat itself "
    "bit for bit to be an oracle; look for a race or for uninitialised memory in its kernels"
)

_TURNS = 8  # Other choices that the framework's outputs are compared with.


class Source:
    """A model built for its source.

    Parameters
    ----------
    model
        The model; its samples are what is run.
    units
        The lowered module as prepared for the source.
    target
        The source target.
    kernels
        The source's kernels, one for every unit.
    library
        Where they were built.

    Raises
    ------
    LoweringError
        A kernel of the source did not build: there is nothing to trust.

    Attributes
    ----------
    run_s, derive_s
        Seconds in which all samples ran, and in which it derived weights for that; 0 before
        ``run``.
    calls
        The calls of each sample; none before ``run``.
    """

    def __init__(
        self,
        model: Model,
        units: tvm.IRModule,
        target: tvm.target.Target,
        kernels: KernelSet,
        library: KernelLibrary,
    ) -> None:
        if kernels.failed:
            unit, reason = next(iter(kernels.failed.items()))
            raise LoweringError(
                f"the source cannot be built: unit {unit}: {reason}. The source must run the whole "
                "model; choose another --source"
            )
        self.run_s = self.derive_s = 0.0
        self.calls: list[list[FunctionCall]] = []
        self.kernels = kernels
        self.library = library
        self._runs = SourceRuns(model, units, target, kernels.files(), library)

    @property
    def units(self) -> tvm.IRModule:
        """The lowered module as prepared for the source."""
        return self._runs.units

    @property
    def host(self) -> Host:
        """What runs the host's side of hybrids."""
        return self._runs.host

    @property
    def derived_names(self) -> frozenset[str]:
        """The names of the weights that it derives."""
        found = derivations(self._runs.lifted)
        return frozenset(result.name for item in found for result in item.results)

    def take_model(self, model: Model, derived: Mapping[str, Array], lowered: tvm.IRModule) -> None:
        """Run another model from now on; see ``SourceRuns.take_model``."""
        self._runs.take_model(model, derived, lowered)

    def run(self, stage: Stage) -> list[list[Array]]:
        """Return the outputs of every sample, flattened; then ``run_s`` and ``calls`` are known.

        Raises
        ------
        SourceError
            The source crashes, or one of its calls fails; the operator is named.
        """
        program = self._runs.program(self._runs.lifted)

        def work(fork: ForkChannel) -> None:
            called: list[FunctionCall] = []
            derived = program.derived_weights()
            functions = program.functions(
                derived, on_call=lambda name, values: called.append(FunctionCall.of(name, values))
            )
            for index, sample in enumerate(self._runs.model.samples):
                fork.send({"sample": index})
                called.clear()
                began, derived.seconds = time.perf_counter(), 0.0
                outputs = self._runs.model.run(functions, sample)
                run = _Run(
                    seconds=time.perf_counter() - began - derived.seconds,
                    derive_s=derived.seconds,
                    calls=tuple(called),
                )
                fork.send({"sample": index, "run": encode(run)})
                fork.send(None, outputs)

        runs: dict[int, _Run] = {}

        def keep(message: Message) -> None:
            if "run" in message.document:
                runs[message.document["sample"]] = decode(message.document["run"], _Run)

        outputs = list(self._runs.watched(work, stage, on_told=keep))
        self.run_s = sum(run.seconds for run in runs.values())
        self.derive_s = sum(run.derive_s for run in runs.values())
        self.calls = [list(runs[index].calls) for index in sorted(runs)]
        return outputs

    def tolerances(
        self,
        suite: Suite,
        outputs: Sequence[Sequence[Array]],
        stage: Stage,
        *,
        moved: Collection[str] | None = None,
        choices: SourceChoices | None = None,
    ) -> list[list[Tolerance]]:
        """Return how far a right target's outputs may be from the source's, sample by sample.

        Noise must not change what the source chooses: a target whose choices differ is judged with
        the source's.

        Parameters
        ----------
        suite
            Carved from this source; it has the tolerances of the units.
        outputs
            Of ``run``.
        stage
            Shows the progress.
        moved
            The units that may be on the target; None for all.
        choices
            Record what the source chooses.

        Raises
        ------
        SourceError
            The source crashes when results of its operators are moved within their tolerances.
        """
        if moved is not None and not moved:  # Nothing that is compared comes from a target.
            return [output_tolerances(found, [found] * RUNS) for found in outputs]
        units, callbacks = self._runs.lifted, {}
        if choices is not None and choices.units:
            units = LiftDerivedWeights()(
                ReplaceChoices(choices.units, is_observed=True)(self.units)
            )
            callbacks = dict(choices.callbacks(self._runs.forked_host.device))
        program = self._runs.program(units, callbacks)
        machine = program.machine
        levels = noise_levels(suite, moved)
        is_derived_noisy = not program.deriving_units.isdisjoint(levels)

        def work(fork: ForkChannel) -> None:
            functions = program.functions(program.derived_weights(self._runs.forked_host.derived))
            for index, sample in enumerate(self._runs.model.samples):
                fork.send({"sample": index})
                if choices is not None and callbacks:
                    machine.set_instrument(noting(fork.note))
                    with choices.recording(index):
                        self._runs.model.run(functions, sample)
                for seed in range(RUNS):
                    disturbed = noise(levels, seed)
                    machine.set_instrument(both(noting(fork.note), disturbed))
                    if is_derived_noisy:
                        # The weights that it derives are to be moved too.
                        functions = program.functions()
                    with choices.disturbed(index) if choices and callbacks else nullcontext():
                        fork.send(None, self._runs.model.run(functions, sample))
                if choices is not None and callbacks:
                    counts, arrays = choices.recorded(index)
                    fork.send({"sample": index, "choices": counts}, arrays)

        def keep(message: Message) -> None:
            if choices is not None and "choices" in message.document:
                document = message.document
                choices.restore(document["sample"], document["choices"], message.arrays)

        how = " with results moved within their tolerances"
        runs = list(self._runs.watched(work, stage, how=how, on_told=keep))
        return [
            output_tolerances(outputs[index], runs[index * RUNS : (index + 1) * RUNS])
            for index in range(len(self._runs.model.samples))
        ]

    def check_import(
        self, outputs: Sequence[Sequence[Array]], choices: SourceChoices | None = None
    ) -> ImportCheck | None:
        """Compare the source's outputs with the framework's own; None where it has none.

        The framework may choose otherwise among equal scores. If outputs differ, the source is run
        with other choices that are as good: what the framework returns may be any of what comes of
        these. Values that depend on a choice, and are none of these, are not judged.

        Parameters
        ----------
        outputs
            Of ``run``.
        choices
            Of the model; None to compare as it is.

        Raises
        ------
        SourceError
            The framework's own run raised.
        """
        check = check_import(self._runs.model, outputs)
        is_wrong = check is not None and check.verdict is Verdict.MISMATCH
        if not is_wrong or choices is None or not choices.units:
            return check
        return check_import(self._runs.model, outputs, self._alternatives(choices))

    def _alternatives(self, choices: SourceChoices) -> list[list[list[Array]]]:
        """Return the outputs with other choices, sample by sample and turn by turn."""
        units = ReplaceChoices(choices.units, is_observed=True)(self.units)
        callbacks = choices.callbacks(self._runs.forked_host.device)
        program = self._runs.program(LiftDerivedWeights()(units), callbacks)

        def work(fork: ForkChannel) -> None:
            functions = program.functions()
            program.machine.set_instrument(noting(fork.note))
            for index, sample in enumerate(self._runs.model.samples):
                fork.send({"sample": index})
                for turn in range(_TURNS):
                    with choices.alternative(turn):
                        fork.send(None, self._runs.model.run(functions, sample))

        runs = list(self._runs.watched(work, SILENT, how=" with other choices among equal scores"))
        count = len(self._runs.model.samples)
        return [runs[index * _TURNS : (index + 1) * _TURNS] for index in range(count)]

    def capture(
        self,
        folder: Path,
        outputs: Sequence[Sequence[Array]],
        dump: IrDump = NO_DUMP,
        stage: Stage = SILENT,
        plan: CapturePlan = ALL,
    ) -> CaptureStore:
        """Run every sample that is not captured yet with capture calls, into a store.

        Raises
        ------
        UsageError
            Other calls were captured into the store before.
        MachineError
            There is no room for what will be captured.
        SourceError
            A captured run gave other outputs than the plain one: the source does not repeat
            itself, so it is no oracle.
        StoreError
            The store cannot be written.
        """
        labels = [sample_label(i, sample.name) for i, sample in enumerate(self._runs.model.samples)]
        missing, has_weights = list(range(len(labels))), False
        require_plan(folder, plan)
        # A run that was killed early may have left the folder without an index.
        if (folder / INDEX_FILE).exists():
            with CaptureStore.open(folder) as store:
                missing = [i for i, label in enumerate(labels) if not store.is_complete(label)]
                has_weights = bool(store.parameters())
        if missing:
            native.load()
            with dump.phase("capture"):
                calls = [self.calls[i] for i in missing if i < len(self.calls)]
                weights = {name: array.nbytes for name, array in self._runs.model.params.items()}
                sampled = sampled_capture(self._runs.lifted, plan, calls, weights)
            size = sampled.size
            require_room(folder, replace(size, weight_bytes=0) if has_weights else size)
            if not (folder / INDEX_FILE).exists():
                notes = CaptureNotes(
                    model=self._runs.model.name,
                    source=str(self._runs.target),
                    capture_calls=plan.text,
                    expected_bytes=size.total_bytes,
                )
                CaptureStore.create(folder, notes.manifest).close()
            sites = site_records(self.units, sampled.left_out, plan)
            captured = self._runs.program(sampled.module)
            plain = self._runs.program(self._runs.lifted)

            def work(fork: ForkChannel) -> None:
                with (
                    CaptureStore.open(folder) as store,
                    Recorder(store, sites=sites) as recorder,
                ):
                    # Each fork begins with the same memory. A run before these makes it another
                    # one than the first runs had, and kernels that remember something are seen.
                    fork.send({"sample": missing[0]})
                    self._runs.model.run(plain.functions(), self._runs.model.samples[missing[0]])
                    recorder.parameters(self._runs.weights())
                    # The first sample has the calls that derive weights.
                    functions = captured.functions()
                    for index in missing:
                        fork.send({"sample": index})
                        sample = self._runs.model.samples[index]
                        with recorder.sample(labels[index]):
                            result = self._runs.model.run(functions, sample)
                            recorder.outputs(result)
                            # Raised in here, it leaves the sample incomplete: it is no oracle.
                            if not are_same_arrays(outputs[index], result):
                                raise SourceError(_DIFFERENT.format(name=sample.name))

            list(self._runs.watched(work, stage, how=" while it is captured"))
        return CaptureStore.open(folder)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One run of a sample: its seconds, and those of deriving weights, which come on top."""

    seconds: float
    derive_s: float
    calls: tuple[FunctionCall, ...]


def sample_label(index: int, name: str) -> str:
    """Return the name of a sample in a store, unique and in order."""
    return f"{index:03d} {name}"


def site_records(
    module: tvm.IRModule, unchosen: Collection[str] = (), plan: CapturePlan = ALL
) -> list[SiteRecord]:
    """Describe every site for the store, and why those that were not chosen are not captured."""
    records = []
    for site, call in annotated_calls(module):
        found = operator_call(call, module)
        if found is not None:
            description = {"skipped": found.skip_reason} if found.skip_reason else {}
            if site.id in unchosen:
                description |= left_out(plan.text)
            records.append(
                SiteRecord(
                    site=site.id,
                    function=site.function,
                    unit=site.unit,
                    kind=str(found.kind),
                    description=description,
                )
            )
    return records
