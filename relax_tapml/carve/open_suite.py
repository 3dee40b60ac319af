"""A suite on disk, checked before anything of it is used.

Everything is JSON and safetensors, apart from the pytest files, which this module never runs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

import tvm

from relax_tapml.carve import tensor_file
from relax_tapml.carve.manifest import KIND, MANIFEST, SCHEMA, Manifest, from_document
from relax_tapml.errors import StoreError
from relax_tapml.frontend.model import Array

_AGAIN = "Carve the suite again."


class Suite:
    """A suite whose files are known to be those that were written; see ``open_suite``."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def module(self, unit: str) -> tvm.IRModule:
        """Read a unit's module.

        Raises
        ------
        StoreError
            TVM cannot read it, or it lacks the function of a case.
        """
        entry = self.manifest.units[unit]
        path = self.folder / entry.module
        try:
            module = tvm.ir.load_json(path.read_text())
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise StoreError(
                f"{path}: TVM {tvm.__version__} cannot read the module of unit {unit}: "
                f"{lines[-1]}. Use {_versions(self.manifest)}, or carve the suite again."
            ) from error
        names = {gvar.name_hint for gvar in module.functions}
        missing = {case.function for case in entry.cases} - names
        if missing:
            raise StoreError(f"{path} has no function {', '.join(sorted(missing))}. {_AGAIN}")
        return module

    def tensor(self, digest: str) -> Array:
        """Read a tensor, in its own dtype.

        Raises
        ------
        StoreError
            The file does not hold a tensor of the dtype and shape that the manifest says.
        """
        entry = self.manifest.tensors[digest]
        path = self.folder / entry.file
        try:
            return tensor_file.load(path.read_bytes(), entry.dtype, entry.shape)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: {error}. {_AGAIN}") from error


def open_suite(folder: Path | str) -> Suite:
    """Open a suite, after checking that every file is there and is the one that was written.

    Parameters
    ----------
    folder
        A suite, or an output folder with a suite in ``tests``.

    Raises
    ------
    StoreError
        There is no suite, its schema is newer, its manifest is damaged or names a path outside the
        folder, or a file is missing or was changed. Pytest files must be there, and may have been
        edited.
    """
    folder = Path(folder).resolve()
    if not (folder / MANIFEST).exists() and (folder / "tests" / MANIFEST).exists():
        folder = folder / "tests"
    manifest = _read_manifest(folder / MANIFEST)
    for name, sha256 in manifest.sha256.items():
        _check_file(folder, name, sha256)
    return Suite(folder, manifest)


def _read_manifest(path: Path) -> Manifest:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StoreError(
            f"{path} does not exist, so {path.parent} is not a suite. Name an output folder or its "
            "folder tests."
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}. {_AGAIN}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise StoreError(f"{path} is not the manifest of a suite. {_AGAIN}")
    schema = document.get("schema")
    if schema != SCHEMA:
        raise StoreError(
            f"{path} has schema {schema}, this version reads {SCHEMA}. Use the version that wrote "
            f"it: {document.get('versions')}."
        )
    try:
        manifest = from_document(document)
        _check_references(manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {error}). {_AGAIN}"
        ) from error
    return manifest


def _check_references(manifest: Manifest) -> None:
    """Raise ``KeyError`` if a unit or case names something that the manifest does not list."""
    listed = manifest.sha256
    for tensor in manifest.tensors.values():
        _ = listed[tensor.file]
    for unit in manifest.units.values():
        _ = listed[unit.module], listed[unit.test]
        for case in unit.cases:
            if not case.outputs:
                raise ValueError(f"case {case.name} has no outputs to compare")
            for digest in [i.tensor for i in case.inputs] + [o.tensor for o in case.outputs]:
                _ = manifest.tensors[digest]


def _check_file(folder: Path, name: str, sha256: str) -> None:
    path = folder / name
    parts = PurePosixPath(name)
    is_inside = not parts.is_absolute() and ".." not in parts.parts and "\\" not in name
    if not is_inside or not path.resolve().is_relative_to(folder):
        raise StoreError(
            f"{folder / MANIFEST} names {name!r}, which is outside the suite. {_AGAIN}"
        )
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(
            f"{path} is listed in {MANIFEST} but cannot be read: {error.strerror}. {_AGAIN}"
        ) from error
    if actual != sha256 and path.suffix != ".py":
        raise StoreError(
            f"{path} was changed or cut short: expected SHA-256 {sha256}, got {actual}. {_AGAIN}"
        )


def _versions(manifest: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
