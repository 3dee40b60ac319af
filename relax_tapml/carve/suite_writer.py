"""From chosen cases to the files of a suite, unit after unit."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.carved_unit import CarvedCase, CarvedUnit, carve_unit
from relax_tapml.carve.select.choose_cases import Case
from relax_tapml.carve.shape.shape_cases import ShapeCases
from relax_tapml.carve.unit.evaluations import Evaluations
from relax_tapml.errors import SourceError
from relax_tapml.files.read import typed
from relax_tapml.foreign.module import vouch
from relax_tapml.partition.site_table import site_table
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.passes.submodule import submodule
from relax_tapml.processes.fork import Endings, ForkDied, Here, can_fork, forked
from relax_tapml.suite.manifest import (
    MANIFEST,
    Manifest,
    SuiteCase,
    SuiteDim,
    SuiteInput,
    SuiteOutput,
    SuiteTensor,
    SuiteUnit,
)
from relax_tapml.suite.manifest_file import dump_manifest
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.pytest_file import (
    CONFIG,
    CONFIG_NAME,
    SKIPPED_NAME,
    FileStems,
    render_skipped,
    render_unit,
)
from relax_tapml.suite.recipe import Recipe
from relax_tapml.suite.slow_cases import slow_cases
from relax_tapml.suite.suite_files import SuiteFiles
from relax_tapml.suite.tolerances import store_tolerance

_DISTRIBUTIONS = ("relax-tapml", "apache-tvm", "apache-tvm-ffi")


class SuiteWriter:
    """Writes the files of one suite into a folder that nobody else sees yet.

    Parameters
    ----------
    folder
        An empty one.
    lowered, store, source, is_probed
        As for ``write_suite``.
    """

    def __init__(
        self,
        folder: Path,
        lowered: tvm.IRModule,
        store: CaptureStore,
        source: Any,
        is_probed: bool,
    ) -> None:
        self._files = SuiteFiles(folder, {}, {})
        self._lowered = lowered
        self._store = store
        self._source = source
        self._is_probed = is_probed
        self._calls = {site.id: (site, call) for site, call in annotated_calls(lowered)}
        self._origins = {entry.site.id: entry.origins for entry in site_table(lowered)}
        self._skipped: dict[str, str] = {}
        self._skipped_sites: dict[str, str] = {}
        self._unproven: dict[str, str] = {}

    def write(self, cases: Sequence[Case]) -> Suite:
        """Write all files and the manifest.

        Raises
        ------
        SourceError
            A unit cannot be carved without a crash.
        """
        by_unit: dict[str, list[Case]] = {site.unit: [] for site, _ in self._calls.values()}
        for case in cases:
            by_unit[case.unit].append(case)
        stems = FileStems()
        units = self._write_units({unit: stems.stem(unit) for unit in by_unit}, by_unit)
        self._files.write(CONFIG_NAME, CONFIG.encode())
        skipped = {**self._skipped, **self._skipped_sites}
        if skipped:
            self._files.write(SKIPPED_NAME, render_skipped(skipped).encode())
        manifest = Manifest(
            source=str(self._source),
            versions={name: importlib.metadata.version(name) for name in _DISTRIBUTIONS},
            units=units,
            tensors=self._files.tensors,
            skipped=self._skipped,
            skipped_sites=self._skipped_sites,
            unproven=self._unproven,
            sha256=self._files.sha256,
        )
        (self._files.folder / MANIFEST).write_bytes(dump_manifest(manifest))
        return Suite(folder=self._files.folder, manifest=manifest)

    def _write_units(
        self, stems: Mapping[str, str], cases: Mapping[str, Sequence[Case]]
    ) -> dict[str, SuiteUnit]:
        """Write unit after unit, in a fork, because their float64 evaluations may crash.

        A unit that crashed is carved again without the evaluation that did it, and then the rest.
        """
        written: dict[str, SuiteUnit] = {}
        waiting = list(stems)
        refused: dict[int, str] = {}

        def work(fork: Here) -> None:
            # A connection to SQLite is for one thread of one process.
            store = CaptureStore.open(self._store.folder)
            for unit in waiting:
                is_first = unit == waiting[0]
                evaluations = Evaluations(note=fork.note, refused=refused if is_first else {})
                fork.note("")
                fork.send(self._write_unit(unit, stems[unit], cases[unit], store, evaluations))

        endings = Endings("carving the suite")
        while waiting:
            try:
                for message in forked(work, is_safe=can_fork(self._source)):
                    unit = waiting.pop(0)
                    refused = {}
                    entry = self._add(message.document)
                    if entry is not None:
                        written[unit] = entry
            except ForkDied as death:
                if endings.excuses(death):
                    self._files.remove_unlisted()
                    continue
                if not death.at or int(death.at) in refused:
                    raise SourceError(f"carving unit {waiting[0]} {death.text}") from None
                refused[int(death.at)] = f"its float64 evaluation {death.text}"
                self._files.remove_unlisted()
        return written

    def _add(self, document: Mapping[str, Any]) -> SuiteUnit | None:
        """Take over what a fork has written of a unit."""
        self._files.sha256.update(document["sha256"])
        vouch(document["sha256"].values())
        self._files.tensors.update(
            typed(document["tensors"], dict[str, SuiteTensor], "what a fork wrote", fix="")
        )
        self._skipped.update(document["skipped"])
        self._skipped_sites.update(document["skipped_sites"])
        self._unproven.update(document["unproven"])
        unit = document["unit"]
        return None if unit is None else typed(unit, SuiteUnit, "what a fork wrote", fix="")

    def _write_unit(
        self,
        unit: str,
        stem: str,
        cases: Sequence[Case],
        store: CaptureStore,
        evaluations: Evaluations,
    ) -> dict[str, Any]:
        """Carve a unit and write its files; return what the manifest is to say of it."""
        known = set(self._files.sha256)
        carved = carve_unit(
            cases,
            lowered=self._lowered,
            calls=self._calls,
            store=store,
            is_probed=self._is_probed,
            evaluations=evaluations,
        )
        entry: SuiteUnit | None = None
        skipped: dict[str, str] = {}
        if carved.cases:
            entry = self._write_cases(unit, stem, carved)
        else:
            reasons = iter(carved.uncarved.values())
            skipped[unit] = next(reasons, None) or self._why_never(unit)
        files = self._files
        return {
            "unit": None if entry is None else dataclasses.asdict(entry),
            "sha256": {name: sha for name, sha in files.sha256.items() if name not in known},
            "tensors": {
                digest: dataclasses.asdict(tensor)
                for digest, tensor in files.tensors.items()
                if tensor.file not in known
            },
            "skipped": skipped,
            "skipped_sites": carved.uncarved if entry is not None else {},
            "unproven": {f"{unit}/{name}": why for name, why in carved.unprobed.items()},
        }

    def _write_cases(self, unit: str, stem: str, carved: CarvedUnit) -> SuiteUnit:
        # By object: what several cases take is written once, and most of the time goes here.
        digests: dict[int, str] = {}
        described = [self._describe(case, carved.rows, digests) for case in carved.cases]
        entry = SuiteUnit(
            module=f"units/{stem}.json",
            test=f"test_{stem}.py",
            cases=tuple(described),
            constant_inputs=carved.constant_inputs,
            inexact=carved.inexact,
            dims_seen_once=tuple(_seen_once(carved.shapes, carved.cases)),
        )
        # Without the functions of probes that could not be made.
        module = submodule(carved.module, {case.function: None for case in carved.cases})
        self._files.write(entry.module, tvm.ir.save_json(module).encode())
        slow = slow_cases(module, described, self._files.tensors)
        test = render_unit(stem, unit, described, script=module.script(), slow=slow)
        self._files.write(entry.test, test.encode())
        return entry

    def _describe(
        self, case: CarvedCase, rows: Mapping[str, Array], digests: dict[int, str]
    ) -> SuiteCase:
        def write(array: Array, weight: str | None = None, recipe: Recipe | None = None) -> str:
            if id(array) not in digests:
                held = rows.get(weight or "")
                digests[id(array)] = self._files.write_array(array, held, recipe)
            return digests[id(array)]

        record = case.record
        return SuiteCase(
            name=case.name,
            site=record.site,
            sample=record.sample,
            frame=record.frame,
            call=record.call,
            function=case.function,
            may_write=case.may_write,
            inputs=tuple(
                SuiteInput(tensor=write(array, weight, case.recipes.get(place)), weight=weight)
                for place, (array, weight) in enumerate(zip(case.inputs, case.weights, strict=True))
            ),
            outputs=tuple(
                SuiteOutput(
                    tensor=write(array),
                    tolerance=store_tolerance(
                        tolerance, write=self._files.write_array, inputs=case.inputs
                    ),
                )
                for array, tolerance in zip(case.outputs, case.tolerances, strict=True)
            ),
            reason=case.reason,
            origins=tuple(origin.text for origin in self._origins[record.site]),
            is_probe=case.is_probe,
        )

    def _why_never(self, unit: str) -> str:
        for site, call in self._calls.values():
            found = operator_call(call, self._lowered)
            if site.unit == unit and found is not None and found.skip_reason is not None:
                return str(found.skip_reason)
        return "no call of it that returned was recorded"


def _seen_once(shapes: ShapeCases, cases: Sequence[CarvedCase]) -> Iterator[SuiteDim]:
    for dim in shapes.dims:
        if len(dim.values) == 1:
            [value] = dim.values
            probed = {case.sizes[dim.name] for case in cases if dim.name in case.sizes} - {value}
            yield SuiteDim(
                name=dim.name,
                value=value,
                probed=tuple(sorted(probed)),
                reason="; ".join(shapes.reasons),
            )
