"""Suites of several models as one, without duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from relax_tapml.errors import UsageError
from relax_tapml.files.replace import check_replaceable, new_folder
from relax_tapml.suite._merged_unit import MergedUnit
from relax_tapml.suite.manifest import (
    MANIFEST,
    Manifest,
    SuiteKernels,
    SuiteTensor,
    SuiteUnit,
)
from relax_tapml.suite.manifest_file import dump_manifest
from relax_tapml.suite.note_target import write_kernels
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.pytest_file import FileStems, identifier
from relax_tapml.suite.suite_files import SuiteFiles
from relax_tapml.versions import versions


@dataclass(frozen=True, kw_only=True)
class MergedSuites:
    """What merging kept and left out.

    Parameters
    ----------
    manifest
        Of the merged suite; ``merged_from`` lists which unit came from where.
    equal_units, equal_cases, equal_tensors
        How many were left out because an equal one is there.
    size_bytes
        Of all files.
    """

    manifest: Manifest
    equal_units: int
    equal_cases: int
    equal_tensors: int
    size_bytes: int


def merge_suites(
    folder: Path | str,
    suites: Sequence[Path | str],
    *,
    replace: bool = False,
    trust: bool = False,
) -> MergedSuites:
    """Write one suite that holds the cases of several, all of it or nothing.

    Units are one if their kernels are structurally equal, whatever their names: the first name
    stays. A unit that has the name of another with a different kernel gets the name of its suite
    as suffix, ``fused_matmul_add2_gpt2``. Of cases that do the same call with the same inputs and
    have the same oracle, the first is kept. Tensors are kept once.

    Parameters
    ----------
    folder
        Created, with its parents.
    suites
        Suites, or output folders with one in ``tests``. A suite has the name of its
        folder, or of the output folder.
    replace
        Whether an existing folder is replaced. It may be one of ``suites``.
    trust
        As for ``replay``.

    Raises
    ------
    StoreError
        A suite is damaged.
    UsageError
        The suites were recorded on different targets; or the folder exists, is not empty, and
        ``replace`` is false.
    """
    folder = Path(folder)
    check_replaceable(folder, replace=replace)
    opened = [open_suite(suite, trust=trust) for suite in suites]
    source = opened[0].manifest.source
    for suite in opened:
        if suite.manifest.source != source:
            raise UsageError(
                f"{suite.folder} was recorded on {suite.manifest.source}, but {opened[0].folder} "
                f"on {source}. Suites of one source only can be merged: carve one of them again, "
                "or keep both."
            )
    labelled = dict(zip(_labels(opened), opened, strict=True))
    collected = _collect(labelled)
    with new_folder(folder, check=open_suite) as scratch:
        return _write(scratch, labelled, collected)


@dataclass(kw_only=True)
class _Collected:
    """What the merged suite will hold, and what was left out."""

    units: list[MergedUnit] = field(default_factory=list)
    tensors: dict[str, tuple[Suite, SuiteTensor]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    skipped_sites: dict[str, str] = field(default_factory=dict)
    dropped_cases: dict[str, str] = field(default_factory=dict)
    merged_from: dict[str, dict[str, str]] = field(default_factory=dict)
    equal_units: int = 0
    equal_cases: int = 0
    equal_tensors: int = 0


def _labels(suites: Sequence[Suite]) -> Iterator[str]:
    """Yield a short readable name for each suite, no two alike."""
    taken: set[str] = set()
    for suite in suites:
        path = suite.folder.parent if suite.folder.name == "tests" else suite.folder
        base = label = identifier(path.name) or "suite"
        count = 1
        while label in taken:
            count += 1
            label = f"{base}_{count}"
        taken.add(label)
        yield label


def _collect(labelled: Mapping[str, Suite]) -> _Collected:
    found = _Collected()
    for label, suite in labelled.items():
        names = found.merged_from[label] = {}
        for name, entry in suite.manifest.units.items():
            unit = MergedUnit.read(name, suite.module(name), entry, suite.kernels_by_target(name))
            known = next((other for other in found.units if other.has_kernel_of(unit)), None)
            if known is None:
                known = unit.named(_free(name, label, {other.name for other in found.units}))
                found.units.append(known)
            else:
                found.equal_units += 1
                found.equal_cases += known.take_cases(unit, label)
            names[known.name] = name
    units = {unit.name for unit in found.units}
    for label, suite in labelled.items():
        for name, reason in suite.manifest.skipped.items():
            if found.skipped.get(name) != reason:
                found.skipped[_free(name, label, units | found.skipped.keys())] = reason
        for site, reason in suite.manifest.skipped_sites.items():
            if found.skipped_sites.get(site) != reason:
                taken = set(found.skipped_sites)
                found.skipped_sites[site if site not in taken else f"{label}: {site}"] = reason
        for case, reason in suite.manifest.dropped_cases.items():
            found.dropped_cases[_free(case, label, set(found.dropped_cases))] = reason
        for digest, tensor in suite.manifest.tensors.items():
            found.equal_tensors += digest in found.tensors
            found.tensors.setdefault(digest, (suite, tensor))
    return found


def _free(name: str, label: str, taken: set[str]) -> str:
    """Return a name, with a suffix if it is taken."""
    free, count = name, 1
    while free in taken:
        free = f"{name}_{label}" if count == 1 else f"{name}_{label}_{count}"
        count += 1
    return free


def _write(folder: Path, labelled: Mapping[str, Suite], collected: _Collected) -> MergedSuites:
    units: dict[str, SuiteUnit] = {}
    stems = FileStems()
    tensors = {digest: tensor for digest, (_, tensor) in collected.tensors.items()}
    files = SuiteFiles(folder, tensors, {})
    for unit in collected.units:
        stem = stems.stem(unit.name)
        entry = SuiteUnit(
            module=f"units/{stem}.json",
            test=f"test_{stem}.py",
            cases=tuple(unit.cases),
            constant_inputs=unit.constant_inputs,
            inexact=unit.inexact,
            dims_seen_once=tuple(unit.dims),
            targets={
                target: SuiteKernels(reason=found)
                if isinstance(found, str)
                else write_kernels(files, found)
                for target, found in unit.targets.items()
            },
        )
        files.write_unit(unit.name, entry, unit.module())
        units[unit.name] = entry
    used = _used(units)
    for digest in used:
        suite, tensor = collected.tensors[digest]
        if tensor.file is None:
            continue
        sha256 = suite.manifest.sha256[tensor.file]
        file = f"data/{PurePosixPath(tensor.file).name}"
        if files.sha256.get(file, sha256) != sha256:
            file = f"data/{sha256[:32]}.safetensors"
        if file not in files.sha256:
            files.write(file, (suite.folder / tensor.file).read_bytes(), sha256)
        tensors[digest] = replace(tensor, file=file)
    files.write_other_tests(
        {**collected.skipped, **collected.skipped_sites, **collected.dropped_cases}
    )
    first = next(iter(labelled.values())).manifest
    manifest = Manifest(
        source=first.source,
        versions=versions(),
        units=units,
        tensors={digest: tensors[digest] for digest in used},
        skipped=collected.skipped,
        skipped_sites=collected.skipped_sites,
        dropped_cases=collected.dropped_cases,
        sha256=files.sha256,
        merged_from=collected.merged_from,
        targets=tuple(
            target
            for target in first.targets
            if all(target in suite.manifest.targets for suite in labelled.values())
        ),
    )
    (folder / MANIFEST).write_bytes(dump_manifest(manifest))
    return MergedSuites(
        manifest=manifest,
        equal_units=collected.equal_units,
        equal_cases=collected.equal_cases,
        equal_tensors=collected.equal_tensors,
        size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


def _used(units: Mapping[str, SuiteUnit]) -> list[str]:
    """Return the digests that cases name, each once."""
    used: dict[str, None] = {}
    for unit in units.values():
        for case in unit.cases:
            used.update(dict.fromkeys(case.digests))
    return list(used)
