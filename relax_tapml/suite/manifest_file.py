"""``manifest.json``: a manifest with a checksum of itself, so that every change is found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relax_tapml.errors import StoreError
from relax_tapml.files.read import read_json, typed
from relax_tapml.printable import printable
from relax_tapml.suite.manifest import KIND, READ_SCHEMAS, SCHEMA, Manifest, check_tolerances

CARVE_AGAIN = "Carve the suite again"
# A manifest has about a kilobyte for each case.
_MAX_BYTES = 64 * 1024 * 1024
_CHECKSUM = "checksum"
# The field ``dropped_cases`` of ``Manifest`` as files call it.
_DROPPED_IN_FILE = "unproven"


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``.

    Names of samples and messages of programs are written with escapes for what a terminal must not
    print: a suite that holds anything else is refused when it is opened.
    """
    fields = {
        _DROPPED_IN_FILE if name == "dropped_cases" else name: value
        for name, value in asdict(manifest).items()
    }
    return seal({"schema": SCHEMA, "kind": KIND, **_printable(fields)})


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): _printable(item) for name, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value


def seal(document: dict[str, Any]) -> bytes:
    """Return a document as JSON, with its checksum as the last entry."""
    content = {name: value for name, value in document.items() if name != _CHECKSUM}
    return (json.dumps({**content, _CHECKSUM: _checksum(content)}, indent=1) + "\n").encode()


def read_manifest(path: Path) -> Manifest:
    """Read and check a ``manifest.json``.

    Raises
    ------
    StoreError
        It is not there, is too large to be one, is of another kind or schema, or was changed.
    """
    if not path.exists() and not path.is_symlink():
        raise StoreError(
            f"{path} does not exist, so {path.parent} is not a suite. Name an output folder or "
            "its folder tests."
        )
    document = read_json(path, fix=CARVE_AGAIN, max_bytes=_MAX_BYTES)
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise StoreError(f"{path} is not the manifest of a suite. {CARVE_AGAIN}")
    schema = document.get("schema")
    if schema not in READ_SCHEMAS or isinstance(schema, bool):
        wrote = f"relax_tapml that wrote it: {document.get('versions')}"
        is_newer = isinstance(schema, int) and schema > SCHEMA
        fix = f"Use the version of {wrote}." if is_newer else f"{CARVE_AGAIN}, or use the {wrote}."
        *earlier, last = map(str, READ_SCHEMAS)
        reads = f"{', '.join(earlier)} and {last}"
        raise StoreError(f"{path} has schema {schema!r}, this version reads {reads}. {fix}")
    checksum = document.pop(_CHECKSUM, None)
    actual = _checksum(document)
    if checksum != actual:
        raise StoreError(
            f"{path} was changed: expected checksum {checksum}, got {actual}. {CARVE_AGAIN}"
        )
    if _DROPPED_IN_FILE in document:
        document["dropped_cases"] = document.pop(_DROPPED_IN_FILE)
    manifest = typed(document, Manifest, path, fix=CARVE_AGAIN)
    try:
        check_tolerances(manifest)
        _check_references(manifest)
    except (KeyError, ValueError) as error:
        fault = f"it does not list {error}" if isinstance(error, KeyError) else error
        raise StoreError(f"{path} is damaged: {fault}. {CARVE_AGAIN}") from error
    return manifest


def _checksum(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_references(manifest: Manifest) -> None:
    """Raise ``KeyError`` or ``ValueError`` if a unit or case names what the manifest lacks."""
    listed = manifest.sha256
    for tensor in manifest.tensors.values():
        if tensor.file is not None:
            _ = listed[tensor.file]
            _check_suffix(tensor.file, ".safetensors")
    for unit in manifest.units.values():
        _ = listed[unit.test]
        for name in (unit.module, *(k.file for k in unit.targets.values() if k.file is not None)):
            _ = listed[name]
            _check_suffix(name, ".json")
        if not unit.cases:
            raise ValueError("a unit has no cases")
        if len({case.name for case in unit.cases}) < len(unit.cases):
            raise ValueError("two cases of a unit have the same name")
        for case in unit.cases:
            if not case.outputs:
                raise ValueError(f"case {case.name} has no outputs to compare")
            for digest in [i.tensor for i in case.inputs] + [o.tensor for o in case.outputs]:
                _ = manifest.tensors[digest]


def _check_suffix(name: str, suffix: str) -> None:
    # Only Python files may have been edited.
    if not name.endswith(suffix):
        raise ValueError(f"{name!r} should end with {suffix}")
