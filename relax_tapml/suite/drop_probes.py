"""A suite without some of its cases."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relax_tapml.files.replace import new_folder
from relax_tapml.suite.manifest import MANIFEST, SuiteUnit
from relax_tapml.suite.manifest_file import dump_manifest
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.pytest_file import SKIPPED_NAME, render_skipped, render_unit
from relax_tapml.suite.slow_cases import slow_cases


def drop_probes(suite: Suite, probes: Mapping[str, str]) -> Suite:
    """Take probes out of a suite and list them with the reason; all of it or nothing.

    Nothing is derived again: what stays is linked, pytest files and the manifest are written anew,
    and tensors that no case needs any more are gone.

    Parameters
    ----------
    suite
        Its folder is replaced.
    probes
        ``UNIT/CASE`` to reason. A unit must keep a case.

    Returns
    -------
    Suite
        As it is now.
    """
    manifest = suite.manifest
    units = {
        name: dataclasses.replace(
            unit, cases=tuple(c for c in unit.cases if f"{name}/{c.name}" not in probes)
        )
        for name, unit in manifest.units.items()
    }
    changed = {name: unit for name, unit in units.items() if unit != manifest.units[name]}
    needed = {
        text
        for unit in units.values()
        for text in _texts(dataclasses.asdict(unit))
        if text in manifest.tensors
    }
    tensors = {digest: entry for digest, entry in manifest.tensors.items() if digest in needed}
    unproven = {**manifest.unproven, **probes}
    written = {unit.test: _test(suite, name, unit) for name, unit in changed.items()}
    written[SKIPPED_NAME] = render_skipped({**manifest.skipped, **manifest.skipped_sites, **probes})
    gone = {e.file for e in manifest.tensors.values()} - {e.file for e in tensors.values()}
    kept = {name: sha for name, sha in manifest.sha256.items() if name not in gone | written.keys()}
    new = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in written.items()}
    manifest = dataclasses.replace(
        manifest, units=units, tensors=tensors, unproven=unproven, sha256={**kept, **new}
    )
    with new_folder(suite.folder) as scratch:
        for name in kept:
            _link(suite.folder / name, scratch / name)
        for name, text in written.items():
            (scratch / name).write_text(text, encoding="utf-8")
        (scratch / MANIFEST).write_bytes(dump_manifest(manifest))
        changed_suite = open_suite(scratch, trust=suite.trust)
    return dataclasses.replace(changed_suite, folder=suite.folder)


def _test(suite: Suite, name: str, unit: SuiteUnit) -> str:
    module = suite.module(name)
    return render_unit(
        unit.test.removeprefix("test_").removesuffix(".py"),
        name,
        unit.cases,
        script=module.script(),
        slow=slow_cases(module, unit.cases, suite.manifest.tensors),
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a document: any may be the digest of a tensor."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for item in value.values() for text in _texts(item))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in _texts(item))


def _link(old: Path, new: Path) -> None:
    new.parent.mkdir(exist_ok=True)
    try:
        os.link(old, new)
    except OSError:  # a file system without links
        shutil.copyfile(old, new)
