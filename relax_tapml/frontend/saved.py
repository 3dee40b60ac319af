"""Models on disk: the folder that ``save_model`` writes, and a Relax module saved as JSON.

All files are JSON and safetensors, and ``foreign.module`` checks the module before it is used. Its
kernels are programs nevertheless, which the source runs in this process.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import tvm

from relax_tapml.arrays import Array
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.mapped import map_file
from relax_tapml.files.read import (
    MAX_WEIGHTS_BYTES,
    listed_file,
    read_json,
    sha256_of,
    typed,
)
from relax_tapml.files.replace import new_folder
from relax_tapml.foreign.module import read_module
from relax_tapml.foreign.names import first_fault
from relax_tapml.frontend._callable import from_module
from relax_tapml.frontend.model import Meaning, Model, Sample
from relax_tapml.frontend.signature import check_model
from relax_tapml.tensor_file import parse_tensors, raw_tensors, write_tensors
from relax_tapml.versions import versions

SCHEMA = 1
_KIND = "relax_tapml.model"
_MANIFEST = "manifest.json"
_FIX = "Save the model again"
_MODULE = "module.json"
_PARAMS = "params.safetensors"


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """A sample, and the file of its arrays."""

    name: str
    file: str


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """The fields of ``manifest.json``, besides schema and kind."""

    name: str
    entry: str
    meaning: Meaning | None
    params: tuple[str, ...]
    inputs: tuple[str, ...]
    samples: tuple[_Sample, ...]
    versions: dict[str, str]
    sha256: dict[str, str]


def save_model(model: Model, folder: Path | str) -> None:
    """Write a model to a folder that ``load_model`` reads; if that fails, no folder is left.

    The folder holds ``module.json``, ``params.safetensors``, ``inputs/000.safetensors`` and so on,
    one for each sample, and ``manifest.json`` with names, versions and SHA-256 checksums.
    ``reference`` and ``accurate`` are Python code and not saved: a loaded model has neither.

    Raises
    ------
    UsageError
        The model has a ``drive``, which is Python code too, and the model cannot be run without it;
        or the folder exists and is not empty; or the model does not fit its own entry function; or
        it has a dtype that safetensors lacks.
    """
    folder = Path(folder)
    if model.drive is not None:
        raise UsageError(
            f"model '{model.name}' has a drive, which is Python code and cannot be saved. Name the "
            "function that makes the model instead, MODULE:FUNCTION."
        )
    signature = check_model(model)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder. Choose another name.")
    inputs = [f"inputs/{index:03}.safetensors" for index in range(len(model.samples))]
    try:
        tensors = {_PARAMS: raw_tensors(model.params)}
        for file, sample in zip(inputs, model.samples, strict=True):
            arrays = dict(zip(signature.input_names, sample.arrays, strict=True))
            tensors[file] = raw_tensors(arrays)
    except ValueError as error:
        raise UsageError(f"model '{model.name}' cannot be saved: {error}.") from error
    with new_folder(folder, check=load_saved) as scratch:
        (scratch / _MODULE).write_text(tvm.ir.save_json(model.module))
        for name, held in tensors.items():
            (scratch / name).parent.mkdir(exist_ok=True)
            write_tensors(scratch / name, held)
        manifest = _Manifest(
            name=model.name,
            entry=model.entry,
            meaning=model.meaning,
            params=tuple(model.params),
            inputs=tuple(signature.input_names),
            samples=tuple(
                _Sample(name=sample.name, file=file)
                for sample, file in zip(model.samples, inputs, strict=True)
            ),
            versions=versions(),
            sha256={name: _sha256(scratch / name) for name in (_MODULE, *tensors)},
        )
        document = {"schema": SCHEMA, "kind": _KIND, **asdict(manifest)}
        (scratch / _MANIFEST).write_text(json.dumps(document, indent=1))


def load_saved(folder: Path, *, trust: bool = False) -> Model:
    """Read a folder written by ``save_model``.

    Raises
    ------
    StoreError
        A file is missing, or was changed or cut short; or another version wrote the folder; or the
        module calls a function that is not on the list of harmless ones and ``trust`` is false.
    """
    path = folder / _MANIFEST
    manifest = _read_manifest(path)

    def content(name: str) -> Array:
        return _checked(listed_file(folder, name, by=path, fix=_FIX), manifest.sha256[name])

    try:
        fault = first_fault([manifest.name, manifest.entry, *manifest.params])
        fault = fault or first_fault([*manifest.inputs, *manifest.sha256])
        if fault:
            raise ValueError(fault)
        params = _tensors(folder / _PARAMS, content(_PARAMS))
        samples = []
        for item in manifest.samples:
            arrays = _tensors(folder / item.file, content(item.file))
            ordered = tuple(arrays[name] for name in manifest.inputs)
            samples.append(Sample(name=item.name, arrays=ordered))
        return Model(
            name=manifest.name,
            module=_module(folder / _MODULE, content(_MODULE).tobytes(), trust),
            params={name: params[name] for name in manifest.params},
            samples=tuple(samples),
            entry=manifest.entry,
            meaning=manifest.meaning,
        )
    except (KeyError, ValueError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else error
        raise StoreError(f"{path} does not describe the folder: {reason}. {_FIX}") from error


def load_ir(file: Path, *, trust: bool = False) -> Model:
    """Read a Relax module written by ``tvm.ir.save_json``, without samples.

    Parameters come from a ``.safetensors`` file of the same name next to it, named as the
    parameters of the function ``main``. Without that file the module takes inputs only.

    Raises
    ------
    StoreError
        A file cannot be read, or the module calls a function that is not on the list of harmless
        ones and ``trust`` is false.
    UsageError
        The parameters do not match those of ``main``.
    """
    module = _module(file, _content(file).tobytes(), trust)
    weights = file.with_suffix(".safetensors")
    params = _tensors(weights, _content(weights)) if weights.exists() else {}
    return from_module(module, params, name=file.stem)


def _read_manifest(path: Path) -> _Manifest:
    if not path.exists() and not path.is_symlink():
        raise StoreError(
            f"{path.parent} has no {path.name}, so it is not a folder written by save_model."
        )
    document = read_json(path, fix=_FIX)
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise StoreError(f"{path} is not the manifest of a saved model. {_FIX}")
    schema = document.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise StoreError(
            f"{path} has schema {schema}, this version reads {SCHEMA}. Load it with the version "
            f"that wrote it: {document.get('versions')}."
        )
    return typed(document, _Manifest, path, fix=_FIX)


def _checked(file: Path, sha256: str) -> Array:
    """Return the content of a file, mapped, after comparing it with its checksum."""
    data = _content(file)
    actual = hashlib.sha256(data.data).hexdigest()
    if actual != sha256:
        raise StoreError(
            f"{file} was changed or cut short: expected SHA-256 {sha256}, got {actual}. {_FIX}"
        )
    return data


def _content(file: Path) -> Array:
    return map_file(file, fix="Save it again", max_bytes=MAX_WEIGHTS_BYTES)


def _sha256(file: Path) -> str:
    return sha256_of(file, fix=_FIX, max_bytes=MAX_WEIGHTS_BYTES)


def _tensors(file: Path, data: Array) -> dict[str, Array]:
    try:
        return parse_tensors(data)
    except ValueError as error:
        raise StoreError(f"{file} cannot be read: {error}. Save it again.") from error


def _module(file: Path, data: bytes, trust: bool) -> tvm.IRModule:
    fix = f"Save it again with tvm.ir.save_json of TVM {tvm.__version__}."
    return read_module(data, str(file), fix=fix, trust=trust)
