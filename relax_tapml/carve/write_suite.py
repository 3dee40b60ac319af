"""Write a suite: a folder of cases that runs under pytest, anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tvm

from relax_tapml.arrays import Array
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve._carve_unit import carve_unit
from relax_tapml.carve._composite_tolerances import composite_tolerances
from relax_tapml.carve._uncalled import unread_caches, why_uncalled
from relax_tapml.carve._unit_jobs import memory_limit, need_bytes, unit_jobs
from relax_tapml.carve.select.choose_cases import Case
from relax_tapml.carve.unit.carved_unit import CarvedCase, CarvedUnit
from relax_tapml.carve.unit.evaluations import Evaluations
from relax_tapml.cores import usable_cores
from relax_tapml.errors import SourceError
from relax_tapml.files.replace import check_replaceable, new_folder
from relax_tapml.foreign.module import mark_checked
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.site_table import site_table
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.passes.submodule import submodule
from relax_tapml.processes.fork import (
    ForkChannel,
    ForkFailed,
    ForkGroup,
    ForkRetries,
    can_fork,
    forked,
    without_forks,
)
from relax_tapml.processes.within_memory import WithinMemory
from relax_tapml.suite.copies import Copies
from relax_tapml.suite.manifest import (
    MANIFEST,
    Manifest,
    SuiteCase,
    SuiteInput,
    SuiteOutput,
    SuiteTensor,
    SuiteUnit,
)
from relax_tapml.suite.manifest_file import dump_manifest
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.pytest_file import FileStems
from relax_tapml.suite.recipe import Recipe
from relax_tapml.suite.revise_suite import set_tolerances
from relax_tapml.suite.suite_files import HeldPart, SuiteFiles, is_data
from relax_tapml.suite.tolerances import store_tolerance
from relax_tapml.targets.platforms.parse_target import portable_text
from relax_tapml.versions import versions

# Units are evaluated on the CPU, whatever the source.
_CAN_FORK = can_fork(tvm.target.Target("llvm"))


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
    on_unit: Callable[[str], None] = lambda _unit: None,
) -> Suite:
    """Write cases as a suite, all of it or nothing.

    The folder holds ``manifest.json``; ``units/UNIT.json``, the smallest module of each unit;
    ``data/DIGEST.safetensors``, each distinct tensor once; ``test_UNIT.py``, which prints the
    unit and replays its cases. Nothing in it points outside, so it may be moved.

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
    on_unit
        Called with each unit that was carved.

    Returns
    -------
    Suite
        What was written, opened. ``skipped`` in its manifest names every unit of ``lowered``
        without a case.

    Raises
    ------
    UsageError
        The folder exists, is not empty, and ``replace`` is false.
    SourceError
        A unit cannot be carved without a crash.
    """
    folder = Path(folder)
    check_replaceable(folder, replace=replace)
    with new_folder(folder) as scratch:
        suite = _Writer(scratch, lowered, store, source, is_probed, on_unit).write(cases)
        if kernels is not None:
            library = KernelLibrary(kernels)
            found = composite_tolerances(suite, source=source, pipeline=pipeline, library=library)
            if found:
                set_tolerances(suite, found)
        suite = open_suite(scratch)
    return dataclasses.replace(suite, folder=folder.resolve())


@dataclass(frozen=True, kw_only=True)
class _WrittenUnit:
    """What one fork has written: the entries of a unit in the manifest.

    ``unit`` is None where the unit has no case; the other fields add to those of ``Manifest``.
    """

    unit: SuiteUnit | None
    sha256: dict[str, str]
    tensors: dict[str, SuiteTensor]
    skipped: dict[str, str]
    skipped_sites: Mapping[str, str]
    dropped_probes: dict[str, str]


class _Writer:
    """Writes the files of one suite into an empty folder; see ``write_suite``."""

    def __init__(
        self,
        folder: Path,
        lowered: tvm.IRModule,
        store: CaptureStore,
        source: Any,
        is_probed: bool,
        on_unit: Callable[[str], None],
    ) -> None:
        self._on_unit = on_unit
        self._files = SuiteFiles(folder, {}, {})
        self._lowered = lowered
        self._store = store
        self._source = source
        self._is_probed = is_probed
        self._calls = {site.id: (site, call) for site, call in annotated_calls(lowered)}
        self._origins = {entry.site.id: entry.origins for entry in site_table(lowered)}
        self._skipped: dict[str, str] = {}
        self._skipped_sites: dict[str, str] = {}
        self._dropped_probes: dict[str, str] = {}

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
        self._files.write_other_tests({**self._skipped, **self._skipped_sites})
        manifest = Manifest(
            source=portable_text(self._source),
            versions=versions(),
            units=units,
            tensors=self._files.tensors,
            skipped=self._skipped,
            skipped_sites=self._skipped_sites,
            dropped_cases=self._dropped_probes,
            sha256=self._files.sha256,
        )
        (self._files.folder / MANIFEST).write_bytes(dump_manifest(manifest))
        return Suite(folder=self._files.folder, manifest=manifest)

    def _write_units(
        self, stems: Mapping[str, str], cases: Mapping[str, Sequence[Case]]
    ) -> dict[str, SuiteUnit]:
        """Write the units in forks, because their float64 evaluations may crash.

        A unit that crashed is carved again without the evaluation that did it. Forks run beside
        each other where there are cores and memory.
        """
        most = usable_cores() if _CAN_FORK else 1
        needs = {unit: need_bytes(cases[unit], self._store) for unit in stems}
        forks = ForkGroup()
        written: dict[str, _WrittenUnit] = {}
        retries: dict[int, ForkRetries] = {}

        def write(waiting: list[str]) -> bool:
            own = retries.setdefault(id(waiting), ForkRetries("carving the suite"))
            refused: dict[int, str] = {}

            def work(fork: ForkChannel) -> None:
                # A connection to SQLite is for one thread of one process.
                store = CaptureStore.open(self._store.folder)
                for unit in waiting:
                    is_first = unit == waiting[0]
                    evaluations = Evaluations(note=fork.note, refused=refused if is_first else {})
                    fork.note("")
                    made = self._write_unit(unit, stems[unit], cases[unit], store, evaluations)
                    fork.send(msgspec.to_builtins(made))

            while waiting:
                try:
                    for message in forked(work, is_safe=_CAN_FORK, group=forks):
                        unit = waiting.pop(0)
                        refused = {}
                        written[unit] = msgspec.convert(message.document, _WrittenUnit)
                        with without_forks():
                            self._on_unit(unit)
                except ForkFailed as death:
                    if forks.is_ended:
                        return True
                    if own.allows(death):
                        return False  # There may be memory for it when nothing runs beside it.
                    if not death.at or int(death.at) in refused:
                        raise SourceError(f"carving unit {waiting[0]} {death.text}") from None
                    refused[int(death.at)] = f"its float64 evaluation {death.text}"
            return True

        beside = WithinMemory[list[str]](most=most, limit_bytes=memory_limit(self._lowered))
        beside.run(unit_jobs(needs, most), write, stop=forks.end)
        # In the order of the units, whichever was done first.
        for unit in stems:
            self._add(written[unit])
        self._drop_unused()
        return {unit: entry for unit in stems if (entry := written[unit].unit) is not None}

    def _add(self, made: _WrittenUnit) -> None:
        """Take over what a fork has written; of what two have written, the first."""
        files = self._files
        files.sha256.update(made.sha256)
        mark_checked(made.sha256.values())
        files.tensors.update({d: t for d, t in made.tensors.items() if d not in files.tensors})
        self._skipped.update(made.skipped)
        self._skipped_sites.update(made.skipped_sites)
        self._dropped_probes.update(made.dropped_probes)

    def _drop_unused(self) -> None:
        """Remove files that no entry names: of a tensor that two forks wrote in two ways."""
        files = self._files
        used = {tensor.file for tensor in files.tensors.values()}
        for name in [name for name in files.sha256 if is_data(name) and name not in used]:
            del files.sha256[name]
        files.remove_unlisted()

    def _write_unit(
        self,
        unit: str,
        stem: str,
        cases: Sequence[Case],
        store: CaptureStore,
        evaluations: Evaluations,
    ) -> _WrittenUnit:
        """Carve a unit and write its files."""
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
        files = SuiteFiles(self._files.folder, {}, {})
        if carved.cases:
            entry = self._write_cases(files, unit, stem, carved)
        else:
            reasons = iter(carved.uncarved.values())
            skipped[unit] = next(reasons, None) or self._why_never(unit, store)
        return _WrittenUnit(
            unit=entry,
            sha256=files.sha256,
            tensors=files.tensors,
            skipped=skipped,
            skipped_sites={
                **unread_caches(
                    [call for call in self._calls.values() if call[0].unit == unit],
                    store,
                    self._lowered,
                ),
                **carved.uncarved,
            }
            if entry is not None
            else {},
            dropped_probes={f"{unit}/{name}": why for name, why in carved.missing_probes.items()},
        )

    def _write_cases(
        self, files: SuiteFiles, unit: str, stem: str, carved: CarvedUnit
    ) -> SuiteUnit:
        # By object: what several cases take is written once, and most of the time goes here.
        digests: dict[int, str] = {}
        described = [self._describe(files, case, carved.parts, digests) for case in carved.cases]
        entry = SuiteUnit(
            module=f"units/{stem}.json",
            test=f"test_{stem}.py",
            cases=tuple(described),
            constant_inputs=carved.constant_inputs,
            inexact=carved.inexact,
            dims_seen_once=carved.dims_seen_once,
        )
        # Without the functions of probes that could not be made.
        module = submodule(carved.module, {case.function: None for case in carved.cases})
        files.write_unit(unit, entry, module)
        return entry

    def _describe(
        self,
        files: SuiteFiles,
        case: CarvedCase,
        parts: Mapping[int, HeldPart],
        digests: dict[int, str],
    ) -> SuiteCase:
        def write(array: Array, copies: Sequence[Copies] = (), recipe: Recipe | None = None) -> str:
            if id(array) not in digests:
                part = parts.get(id(array))
                digests[id(array)] = files.write_array(array, part, recipe, copies)
            return digests[id(array)]

        def copies_of(number: int) -> Sequence[Copies]:
            return case.copies.outputs.get(number, ())

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
                SuiteInput(
                    tensor=write(array, case.copies.inputs.get(place, ()), case.recipes.get(place)),
                    weight=weight,
                )
                for place, (array, weight) in enumerate(zip(case.inputs, case.weights, strict=True))
            ),
            outputs=tuple(
                SuiteOutput(
                    tensor=write(array, copies_of(number)),
                    tolerance=store_tolerance(
                        tolerance,
                        write=files.tolerance_writer(copies_of(number)),
                        inputs=case.inputs,
                    ),
                )
                for number, (array, tolerance) in enumerate(
                    zip(case.outputs, case.tolerances, strict=True)
                )
            ),
            reason=case.reason,
            origins=tuple(origin.text for origin in self._origins[record.site]),
            is_probe=case.is_probe,
        )

    def _why_never(self, unit: str, store: CaptureStore) -> str:
        calls = [(site, call) for site, call in self._calls.values() if site.unit == unit]
        for _, call in calls:
            found = operator_call(call, self._lowered)
            if found is not None and found.skip_reason is not None:
                return str(found.skip_reason)
        sites = [site for site, _ in calls]
        return why_uncalled(unit, sites, store.called_sites(), self._lowered)
