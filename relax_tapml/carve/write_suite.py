"""Writing a suite: a folder of cases that runs under pytest, anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.composite_tolerances import composite_tolerances
from relax_tapml.carve.select.choose_cases import Case
from relax_tapml.carve.suite_writer import SuiteWriter
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.files.replace import check_replaceable, new_folder, write_file
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.suite.manifest import MANIFEST, SuiteCase, SuiteOutput
from relax_tapml.suite.manifest_file import dump_manifest
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.suite_files import SuiteFiles
from relax_tapml.suite.tolerances import store_tolerance


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
) -> Suite:
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
        suite = SuiteWriter(scratch, lowered, store, source, is_probed).write(cases)
        if kernels is not None:
            library = KernelLibrary(kernels)
            found = composite_tolerances(suite, source=source, pipeline=pipeline, library=library)
            _set_tolerances(suite, found)
        suite = open_suite(scratch)
    return dataclasses.replace(suite, folder=folder.resolve())


def _set_tolerances(
    suite: Suite, tolerances: Mapping[tuple[str, str], Sequence[Tolerance]]
) -> None:
    """Give cases of a suite other tolerances, by the names of unit and case."""
    if not tolerances:
        return
    files = SuiteFiles.of(suite)

    def changed(unit: str, case: SuiteCase) -> SuiteCase:
        found = tolerances.get((unit, case.name))
        if found is None:
            return case
        inputs = [suite.tensor(item.tensor) for item in case.inputs]
        outputs = tuple(
            dataclasses.replace(
                output, tolerance=store_tolerance(item, write=files.write_array, inputs=inputs)
            )
            for output, item in zip(case.outputs, found, strict=True)
        )
        return dataclasses.replace(case, outputs=outputs)

    _with_cases(suite, files, changed)


def note_unwritten(
    suite: Suite, unwritten: Mapping[tuple[str, str], Sequence[Array | None]]
) -> Suite:
    """Keep in a suite which values the source never writes, so that no device is judged there.

    Parameters
    ----------
    suite
        Its manifest is replaced on disk.
    unwritten
        By the names of unit and case, for each output: bool of its shape, or None. Values that
        are recorded as unwritten already stay so.

    Returns
    -------
    Suite
        As it is now.
    """
    files = SuiteFiles.of(suite)

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

    return _with_cases(suite, files, changed)


def _with_cases(
    suite: Suite, files: SuiteFiles, changed: Callable[[str, SuiteCase], SuiteCase]
) -> Suite:
    """Write a suite's manifest with its cases changed, given by unit and case."""
    units = {
        name: dataclasses.replace(unit, cases=tuple(changed(name, case) for case in unit.cases))
        for name, unit in suite.manifest.units.items()
    }
    manifest = dataclasses.replace(
        suite.manifest, units=units, tensors=files.tensors, sha256=files.sha256
    )
    write_file(suite.folder / MANIFEST, dump_manifest(manifest))
    return dataclasses.replace(suite, manifest=manifest)
