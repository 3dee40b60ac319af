"""Writing a suite: a folder of cases that runs under pytest, anywhere."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve import tensor_file
from relax_tapml.carve.carved_unit import CarvedCase, CarvedUnit, carve_unit
from relax_tapml.carve.choose import Case
from relax_tapml.carve.composites import composite_tolerances
from relax_tapml.carve.evaluations import Evaluations
from relax_tapml.carve.manifest import (
    MANIFEST,
    Manifest,
    SuiteCase,
    SuiteDim,
    SuiteInput,
    SuiteOutput,
    SuiteTensor,
    SuiteUnit,
    tensor_from,
    unit_from,
)
from relax_tapml.carve.manifest_file import dump_manifest
from relax_tapml.carve.open_suite import open_suite
from relax_tapml.carve.pytest_file import (
    CONFIG,
    CONFIG_NAME,
    SKIPPED_NAME,
    FileStems,
    render_skipped,
    render_unit,
)
from relax_tapml.carve.recipe import Recipe
from relax_tapml.carve.replace_folder import check_replaceable, replacing
from relax_tapml.carve.shape_cases import ShapeCases
from relax_tapml.carve.slow import slow_cases
from relax_tapml.carve.submodule import submodule
from relax_tapml.carve.tolerances import suite_tolerance
from relax_tapml.compare.tolerance import Tolerance
from relax_tapml.errors import SourceError
from relax_tapml.frontend.model import Array
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.site_table import site_table
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.targets.fork import ForkDied, Here, can_fork, forked

# Smaller tensors are files: these can be looked at with any tool.
_LEAST_MADE = 1 << 14
_DISTRIBUTIONS = ("relax-tapml", "apache-tvm", "apache-tvm-ffi")


def write_suite(
    folder: Path | str,
    cases: Sequence[Case],
    *,
    lowered: tvm.IRModule,
    store: CaptureStore,
    source: Any,
    is_probed: bool = True,
    replace: bool = False,
    pipeline: tvm.transform.Pass | None = None,
    kernels: Path | None = None,
) -> Manifest:
    """Write cases as a suite, all of it or nothing.

    The folder holds ``manifest.json``; ``units/UNIT.json``, the smallest module of each unit;
    ``data/DIGEST.safetensors``, each distinct tensor once; ``test_UNIT.py``, which shows the unit
    and replays its cases. Nothing in it points outside, so it may be moved.

    Parameters
    ----------
    folder
        Created, with its parents.
    cases
        From ``choose_cases``.
    lowered
        The annotated module that the calls were recorded from.
    store
        Where the tensors are.
    source
        The ``tvm.target.Target`` that the calls were recorded on.
    is_probed
        Whether units also get probes.
    replace
        Whether an existing folder is replaced.
    pipeline, kernels
        The source's own pass, and where kernels for the source are kept. Without a place for
        these, units that run the kernels of others get the tolerances of their dtypes, which right
        kernels may miss together.

    Returns
    -------
    Manifest
        What was written. ``skipped`` names every unit of ``lowered`` without a case.

    Raises
    ------
    UsageError
        The folder exists, is not empty, and ``replace`` is false.
    SourceError
        A unit cannot be carved without a crash.
    """
    folder = Path(folder)
    check_replaceable(folder, replace=replace)
    with replacing(folder) as scratch:
        writer = _Writer(scratch, lowered, store, source, is_probed)
        manifest = writer.write(cases)
        if kernels is None:
            return manifest
        library = KernelLibrary(kernels)
        found = composite_tolerances(
            open_suite(scratch), source=source, pipeline=pipeline, library=library
        )
        return _set_tolerances(scratch, found) if found else manifest


def _set_tolerances(
    folder: Path, tolerances: Mapping[tuple[str, str], Sequence[Tolerance]]
) -> Manifest:
    """Give cases of a suite other tolerances, by the names of unit and case."""
    suite = open_suite(folder)
    files = _Files(folder, dict(suite.manifest.tensors), dict(suite.manifest.sha256))

    def changed(unit: str, case: SuiteCase) -> SuiteCase:
        found = tolerances.get((unit, case.name))
        if found is None:
            return case
        inputs = [suite.tensor(item.tensor) for item in case.inputs]
        outputs = tuple(
            dataclasses.replace(
                output, tolerance=suite_tolerance(item, write=files.write_array, inputs=inputs)
            )
            for output, item in zip(case.outputs, found, strict=True)
        )
        return dataclasses.replace(case, outputs=outputs)

    return _with_cases(suite.manifest, files, changed)


def note_unwritten(
    folder: Path, unwritten: Mapping[tuple[str, str], Sequence[Array | None]]
) -> Manifest:
    """Keep in a suite which values the source never writes, so that no device is judged there.

    Parameters
    ----------
    folder
        The suite.
    unwritten
        By the names of unit and case, for each output: bool of its shape, or None. Values that
        are known already stay so.
    """
    suite = open_suite(folder)
    files = _Files(suite.folder, dict(suite.manifest.tensors), dict(suite.manifest.sha256))

    def marked(output: SuiteOutput, mask: Array | None) -> SuiteOutput:
        if mask is None:
            return output
        if output.unwritten is not None:
            mask = mask | suite.tensor(output.unwritten)
        return dataclasses.replace(output, unwritten=files.write_array(mask))

    def changed(unit: str, case: SuiteCase) -> SuiteCase:
        masks = unwritten.get((unit, case.name))
        if masks is None:
            return case
        outputs = tuple(marked(o, mask) for o, mask in zip(case.outputs, masks, strict=True))
        return dataclasses.replace(case, outputs=outputs)

    return _with_cases(suite.manifest, files, changed)


def _with_cases(
    manifest: Manifest, files: _Files, changed: Callable[[str, SuiteCase], SuiteCase]
) -> Manifest:
    """Write a suite's manifest with its cases changed, given by unit and case."""
    units = {
        name: dataclasses.replace(unit, cases=tuple(changed(name, case) for case in unit.cases))
        for name, unit in manifest.units.items()
    }
    manifest = dataclasses.replace(
        manifest, units=units, tensors=files.tensors, sha256=files.sha256
    )
    (files.folder / MANIFEST).write_bytes(dump_manifest(manifest))
    return manifest


class _Writer:
    """Writes the files of one suite into a folder that nobody else sees yet."""

    def __init__(
        self,
        folder: Path,
        lowered: tvm.IRModule,
        store: CaptureStore,
        source: Any,
        is_probed: bool,
    ) -> None:
        self._files = _Files(folder, {}, {})
        self._lowered = lowered
        self._store = store
        self._source = source
        self._is_probed = is_probed
        self._calls = {site.id: (site, call) for site, call in annotated_calls(lowered)}
        self._origins = {entry.site.id: entry.origins for entry in site_table(lowered)}
        self._skipped: dict[str, str] = {}
        self._skipped_sites: dict[str, str] = {}
        self._unproven: dict[str, str] = {}

    def write(self, cases: Sequence[Case]) -> Manifest:
        by_unit: dict[str, list[Case]] = {site.unit: [] for site, _ in self._calls.values()}
        for case in cases:
            by_unit[case.unit].append(case)
        stems = FileStems()
        units = self._write_units({unit: stems.stem(unit) for unit in by_unit}, by_unit)
        self._files.write(CONFIG_NAME, CONFIG.encode())
        skipped = {**self._skipped, **self._skipped_sites, **self._unproven}
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
        return manifest

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

        while waiting:
            try:
                for message in forked(work, is_safe=can_fork(self._source)):
                    unit = waiting.pop(0)
                    refused = {}
                    entry = self._add(message.document)
                    if entry is not None:
                        written[unit] = entry
            except ForkDied as death:
                if not death.at or int(death.at) in refused:
                    raise SourceError(f"carving unit {waiting[0]} {death.text}") from None
                refused[int(death.at)] = f"its float64 evaluation {death.text}"
                self._files.remove_unlisted()
        return written

    def _add(self, document: Mapping[str, Any]) -> SuiteUnit | None:
        """Take over what a fork has written of a unit."""
        self._files.sha256.update(document["sha256"])
        self._files.tensors.update(
            {digest: tensor_from(tensor) for digest, tensor in document["tensors"].items()}
        )
        self._skipped.update(document["skipped"])
        self._skipped_sites.update(document["skipped_sites"])
        self._unproven.update(document["unproven"])
        return None if document["unit"] is None else unit_from(document["unit"])

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
                    tolerance=suite_tolerance(
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


class _Files:
    """The files of a suite, and what its manifest says of them."""

    def __init__(
        self, folder: Path, tensors: dict[str, SuiteTensor], sha256: dict[str, str]
    ) -> None:
        self.folder = folder
        self.tensors = tensors
        self.sha256 = sha256

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self.sha256[name] = hashlib.sha256(data).hexdigest()

    def remove_unlisted(self) -> None:
        """Remove what was written by somebody who died before saying so."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path.relative_to(self.folder).as_posix() not in self.sha256:
                path.unlink()

    def write_array(
        self, array: Array, rows: Array | None = None, recipe: Recipe | None = None
    ) -> str:
        """Write a tensor unless its content is there already; return the digest of its file.

        A large one that a recipe makes has that instead of a file, and the digest of what the file
        would be.
        """
        data = tensor_file.dump(array) if rows is None else tensor_file.dump_rows(array, rows)
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.tensors and recipe is not None and array.nbytes >= _LEAST_MADE:
            self.tensors[digest] = SuiteTensor(
                file=None, dtype=array.dtype.name, shape=array.shape, recipe=recipe
            )
        if digest not in self.tensors:
            file = f"data/{digest[:32]}.safetensors"
            self.write(file, data)
            self.tensors[digest] = SuiteTensor(
                file=file,
                dtype=array.dtype.name,
                shape=array.shape,
                rows=None if rows is None else len(rows),
            )
        return digest
