"""The trusted side: built once, checked against the framework, captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.capture.index import INDEX_FILE
from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import SiteRecord
from relax_tapml.carve.open_suite import Suite
from relax_tapml.carve.sensitivity import RUNS, noise, noise_levels, output_tolerances
from relax_tapml.compare.comparison import Comparison, compare_all, worst
from relax_tapml.compare.tolerance import Tolerance
from relax_tapml.compare.turned import compare_turned
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError, SourceError
from relax_tapml.frontend.model import Array, Model
from relax_tapml.migrate.choices import Choices
from relax_tapml.migrate.reporter import Stage
from relax_tapml.partition.built_functions import BuiltFunctions, weight_names
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.hybrid import Host, callback_module
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.impose_choices import ImposeChoices
from relax_tapml.passes.insert_capture import InsertCapture
from relax_tapml.passes.operator_call import operator_call

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
        self._model = model
        self.units = units
        self._target = target
        self._library = library
        self.kernels = kernels
        self.host = Host(target, kernels.files(), model.params)

    def run(self, stage: Stage) -> list[list[Array]]:
        """Return the outputs of every sample, flattened."""
        functions = self._functions(self._virtual_machine(self.units))
        outputs = []
        for index, sample in enumerate(self._model.samples):
            stage.update(index, len(self._model.samples))
            outputs.append(self._model.run(functions, sample))
        return outputs

    def tolerances(
        self,
        suite: Suite,
        outputs: Sequence[Sequence[Array]],
        stage: Stage,
        choices: Choices | None = None,
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
            Is told how far it is.
        choices
            Record what the source chooses.
        """
        units, callbacks = self.units, {}
        if choices is not None and choices.units:
            units = ImposeChoices(choices.units, is_observed=True)(self.units)
            callbacks = dict(choices.callbacks(self.host.device))
        machine = self._virtual_machine(units, callbacks)
        functions = self._functions(machine)
        levels = noise_levels(suite)
        found = []
        for index, sample in enumerate(self._model.samples):
            stage.update(index, len(self._model.samples))
            runs = []
            if choices is not None and callbacks:
                with choices.recording(index):
                    self._model.run(functions, sample)
            for seed in range(RUNS):
                machine.set_instrument(noise(levels, seed))
                with choices.disturbed(index) if choices and callbacks else nullcontext():
                    runs.append(self._model.run(functions, sample))
            machine.set_instrument(None)
            found.append(output_tolerances(outputs[index], runs))
        return found

    def check_import(
        self, outputs: Sequence[Sequence[Array]], choices: Choices | None = None
    ) -> Comparison | None:
        """Compare the source's outputs with the framework's own, where it has any.

        The framework may choose otherwise among equal scores. If outputs differ, the source is run
        with other choices that are as good: what the framework returns may be any of what comes of
        these. Values that depend on a choice, and are none of these, are not judged.

        Parameters
        ----------
        outputs
            Of ``run``.
        choices
            Of the model; None to compare as it is.

        Returns
        -------
        Comparison or None
            The one that decides: a mismatch if there is one, then the largest error.
        """
        reference = self._model.reference
        if reference is None:
            return None
        wanted = [reference(sample) for sample in self._model.samples]
        found = worst(
            worst(compare_all(theirs, mine)) for theirs, mine in zip(wanted, outputs, strict=True)
        )
        if found.verdict is not Verdict.MISMATCH or choices is None or not choices.units:
            return found
        turned = list(zip(*self._turned(choices), strict=True))
        return worst(
            worst(compare_turned(theirs, mine, others))
            for theirs, mine, others in zip(wanted, outputs, turned, strict=True)
        )

    def _turned(self, choices: Choices) -> Iterator[list[list[Array]]]:
        """Yield the outputs of all samples with other choices, turn by turn."""
        units = ImposeChoices(choices.units, is_observed=True)(self.units)
        machine = self._virtual_machine(units, choices.callbacks(self.host.device))
        functions = self._functions(machine)
        for turn in range(_TURNS):
            with choices.turned(turn):
                yield [self._model.run(functions, sample) for sample in self._model.samples]

    def capture(
        self, folder: Path, outputs: Sequence[Sequence[Array]], stage: Stage
    ) -> CaptureStore:
        """Run every sample that is not captured yet with capture calls, into a store.

        Raises
        ------
        SourceError
            A captured run gave other outputs than the plain one: the source does not repeat
            itself, so it is no oracle.
        StoreError
            The store cannot be written.
        """
        # A run that was killed early may have left the folder without an index.
        if (folder / INDEX_FILE).exists():
            store = CaptureStore.open(folder)
        else:
            manifest = {"model": self._model.name, "source": str(self._target)}
            store = CaptureStore.create(folder, manifest)
        samples = self._model.samples
        labels = [sample_label(i, sample.name) for i, sample in enumerate(samples)]
        if all(store.is_complete(label) for label in labels):
            return store
        native.load()
        functions = self._functions(self._virtual_machine(InsertCapture()(self.units)))
        with Recorder(store, sites=site_records(self.units)) as recorder:
            for index, (label, sample) in enumerate(zip(labels, samples, strict=True)):
                stage.update(index, len(samples))
                if store.is_complete(label):
                    continue
                with recorder.sample(label):
                    result = self._model.run(functions, sample)
                    recorder.outputs(result)
                    # Raised in here, it leaves the sample incomplete: it is no oracle.
                    if not _are_identical(outputs[index], result):
                        raise SourceError(
                            f"sample {sample.name!r}: two runs of the source gave different "
                            "outputs. A source must repeat itself bit for bit to be an oracle; "
                            "look for a race or for uninitialised memory in its kernels"
                        )
        return store

    def _virtual_machine(
        self, module: tvm.IRModule, callbacks: Mapping[str, Callable[..., Any]] | None = None
    ) -> Any:
        functions = compile_functions(module, self._target, self._library)
        return self.host.virtual_machine(functions, callback_module(callbacks or {}))

    def _functions(self, machine: Any) -> BuiltFunctions:
        return self.host.functions(machine, weight_names(self.units))


def sample_label(index: int, name: str) -> str:
    """Return the name of a sample in a store, unique and in order."""
    return f"{index:03d} {name}"


def site_records(module: tvm.IRModule) -> list[SiteRecord]:
    """Describe every site for the store."""
    records = []
    for site, call in annotated_calls(module):
        found = operator_call(call, module)
        if found is not None:
            records.append(
                SiteRecord(
                    site=site.id,
                    function=site.function,
                    unit=site.unit,
                    kind=str(found.kind),
                    description={"skipped": found.skip_reason} if found.skip_reason else {},
                )
            )
    return records


def _are_identical(expected: Sequence[Array], actual: Sequence[Array]) -> bool:
    return len(expected) == len(actual) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(expected, actual, strict=True)
    )
