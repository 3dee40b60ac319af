"""A suite on disk with some of its cases changed: other tolerances, unwritten values, no probe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.files.replace import new_folder, write_file
from relax_tapml.suite.manifest import MANIFEST, SuiteCase, SuiteOutput, SuiteUnit
from relax_tapml.suite.manifest_file import dump_manifest
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.pytest_file import SKIPPED_NAME, render_skipped
from relax_tapml.suite.suite_files import SuiteFiles, link_file, unit_test
from relax_tapml.suite.tolerances import store_tolerance


def set_tolerances(
    suite: Suite, tolerances: Mapping[tuple[str, str], Sequence[Tolerance]]
) -> Suite:
    """Give cases of a suite other tolerances, by the names of unit and case; return it so."""
    files = SuiteFiles.of(suite)
    writer = files.tolerance_writer()

    def changed(unit: str, case: SuiteCase) -> SuiteCase:
        found = tolerances.get((unit, case.name))
        if found is None:
            return case
        inputs = [suite.tensor(item.tensor) for item in case.inputs]
        outputs = tuple(
            replace(output, tolerance=store_tolerance(item, write=writer, inputs=inputs))
            for output, item in zip(case.outputs, found, strict=True)
        )
        return replace(case, outputs=outputs)

    return _with_cases(suite, files, changed)


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
        return replace(output, unwritten=files.write_array(mask))

    def changed(unit: str, case: SuiteCase) -> SuiteCase:
        masks = unwritten.get((unit, case.name))
        if masks is None:
            return case
        outputs = tuple(marked(o, mask) for o, mask in zip(case.outputs, masks, strict=True))
        return replace(case, outputs=outputs)

    return _with_cases(suite, files, changed)


def drop_cases(suite: Suite, reasons: Mapping[str, str]) -> Suite:
    """Take cases out of a suite and list them with the reason; all of it or nothing.

    Nothing is derived again: what stays is linked, pytest files and the manifest are written anew,
    and tensors that no case needs any more are gone.

    Parameters
    ----------
    suite
        Its folder is replaced.
    reasons
        ``UNIT/CASE`` to reason, of probes and of recorded cases. A unit that keeps no recorded case
        is skipped, for the reason of its first one; a site that keeps none is listed as not
        carved.

    Returns
    -------
    Suite
        As it is now.
    """
    manifest = suite.manifest
    units: dict[str, SuiteUnit] = {}
    skipped, skipped_sites = dict(manifest.skipped), dict(manifest.skipped_sites)
    dropped: dict[str, str] = {}
    for name, unit in manifest.units.items():
        kept = tuple(case for case in unit.cases if f"{name}/{case.name}" not in reasons)
        lacking = {case: reasons[f"{name}/{case.name}"] for case in unit.cases if case not in kept}
        gone = {case.site: why for case, why in lacking.items() if not case.is_probe}
        told = gone.keys() - {case.site for case in kept if not case.is_probe}
        dropped |= {
            f"{name}/{case.name}": why
            for case, why in lacking.items()
            if case.is_probe or case.site not in told
        }
        if all(case.is_probe for case in kept):
            skipped[name] = next(iter(gone.values()))
        else:
            units[name] = replace(unit, cases=kept)
            skipped_sites |= {site: gone[site] for site in gone if site in told}
    lost = [unit for name, unit in manifest.units.items() if name not in units]
    changed = {name: unit for name, unit in units.items() if unit != manifest.units[name]}
    needed = {digest for unit in units.values() for case in unit.cases for digest in case.digests}
    tensors = {digest: entry for digest, entry in manifest.tensors.items() if digest in needed}
    written = {
        unit.test: unit_test(name, unit, suite.module(name), manifest.tensors)
        for name, unit in changed.items()
    }
    written[SKIPPED_NAME] = render_skipped({**skipped, **skipped_sites, **dropped})
    gone_files = {e.file for e in manifest.tensors.values()} - {e.file for e in tensors.values()}
    gone_files.update(name for unit in lost for name in (unit.module, unit.test))
    replaced = gone_files | written.keys()
    kept_files = {name: sha for name, sha in manifest.sha256.items() if name not in replaced}
    new = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in written.items()}
    manifest = replace(
        manifest,
        units=units,
        tensors=tensors,
        skipped=skipped,
        skipped_sites=skipped_sites,
        dropped_cases={**manifest.dropped_cases, **dropped},
        sha256={**kept_files, **new},
    )
    with new_folder(suite.folder) as scratch:
        for name in kept_files:
            link_file(suite.folder / name, scratch / name)
        for name, text in written.items():
            (scratch / name).write_text(text, encoding="utf-8")
        (scratch / MANIFEST).write_bytes(dump_manifest(manifest))
        changed_suite = open_suite(scratch, trust=suite.trust)
    return replace(changed_suite, folder=suite.folder)


def _with_cases(
    suite: Suite, files: SuiteFiles, changed: Callable[[str, SuiteCase], SuiteCase]
) -> Suite:
    """Write a suite's manifest with its cases changed, given by unit and case."""
    units = {
        name: replace(unit, cases=tuple(changed(name, case) for case in unit.cases))
        for name, unit in suite.manifest.units.items()
    }
    manifest = replace(suite.manifest, units=units, tensors=files.tensors, sha256=files.sha256)
    write_file(suite.folder / MANIFEST, dump_manifest(manifest))
    return replace(suite, manifest=manifest)
