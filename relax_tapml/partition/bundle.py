"""A partitioned program as a folder that runs without the model and its framework."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.cpu_schedule.native_cpu import instruction_sets, missing_instruction_sets
from relax_tapml.errors import StoreError, TapmlError, UsageError
from relax_tapml.files.closing import Closing
from relax_tapml.files.mapped import map_file
from relax_tapml.files.read import (
    MAX_JSON_BYTES,
    MAX_WEIGHTS_BYTES,
    listed_file,
    read_bytes,
    read_json,
    sha256_of,
    typed,
)
from relax_tapml.files.replace import new_folder
from relax_tapml.partition._bundle_code import check_code
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.bytecode import CompiledFunctions
from relax_tapml.partition.derived_weights import Derivation
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.program import PartitionedProgram
from relax_tapml.printable import error_line, message_line
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.tensor_file import parse_tensors, raw_tensors, write_tensors
from relax_tapml.versions import versions

_SCHEMA = 4
_KIND = "relax_tapml.bundle"
_MANIFEST = "manifest.json"
_PARAMS = "params.safetensors"
_FIX = "Run the build again"


@dataclass(frozen=True, kw_only=True)
class _Side:
    """Files of one side, relative to the bundle, and what its CPU must have."""

    bytecode: str | None
    shape_functions: tuple[str, ...]
    kernels: tuple[str, ...]
    instruction_sets: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        first = () if self.bytecode is None else (self.bytecode,)
        return (*first, *self.shape_functions, *self.kernels)


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """The fields of ``manifest.json``, besides schema and kind."""

    boundary: dict[str, Any]
    source: str
    target: str
    host: _Side
    device: _Side
    params: tuple[str, ...]
    weights: dict[str, tuple[str, ...]]
    derivations: tuple[Derivation, ...]
    versions: dict[str, str]
    sha256: dict[str, str]

    def __post_init__(self) -> None:
        if self.host.bytecode is None:
            raise ValueError("the host has no bytecode")
        derived = {result.name for item in self.derivations for result in item.results}
        unknown = {name for names in self.weights.values() for name in names} - derived
        unknown.update(name for item in self.derivations for name in item.weights)
        unknown.difference_update(self.params)
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]!r} is not a weight of the bundle")
        if any(len({*names}) < len(names) for names in self.weights.values()):
            raise ValueError("a function lists a weight twice")


def write_bundle(
    folder: Path,
    program: PartitionedProgram,
    *,
    source: tvm.target.Target,
    target: tvm.target.Target,
    host_kernels: Sequence[Path],
    device_kernels: Sequence[Path],
    params: Mapping[str, Array],
) -> None:
    """Write a bundle and replace an older one; if that fails, the older one stays as it is.

    The folder has the bytecode of both sides, their kernels, the weights and ``manifest.json`` with
    the boundary, the targets, the instruction sets that their CPUs must have, versions and the
    SHA-256 of every file. Weights that the program derives from these are not in it: they are
    computed once when a loaded bundle is first called.
    """
    # The SHA-256 of each file was computed from what is there: it is not read once more.
    with new_folder(folder, check=_manifest_of) as new:
        _fill(new, program, host_kernels, device_kernels, params, source, target)


def _fill(
    folder: Path,
    program: PartitionedProgram,
    host_kernels: Sequence[Path],
    device_kernels: Sequence[Path],
    params: Mapping[str, Array],
    source: tvm.target.Target,
    target: tvm.target.Target,
) -> None:
    sides: dict[str, _Side] = {}
    for side, functions, kernels, compiled_for in (
        ("host", program.host, host_kernels, source),
        ("device", program.device, device_kernels, target),
    ):
        if functions is None:
            sides[side] = _Side(bytecode=None, shape_functions=(), kernels=())
            continue
        (folder / f"{side}.vm").write_bytes(functions.bytecode)
        (folder / side).mkdir()
        for path in (*functions.shape_functions, *kernels):
            shutil.copyfile(path, folder / side / path.name)
        sides[side] = _Side(
            bytecode=f"{side}.vm",
            shape_functions=tuple(f"{side}/{path.name}" for path in functions.shape_functions),
            kernels=tuple(f"{side}/{path.name}" for path in kernels),
            instruction_sets=instruction_sets(compiled_for),
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sha256 = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    of_params = hashlib.sha256()
    write_tensors(folder / _PARAMS, raw_tensors(params), on_bytes=of_params.update)
    sha256[_PARAMS] = of_params.hexdigest()
    manifest = _Manifest(
        boundary=program.boundary.document(),
        source=str(source),
        target=str(target),
        host=sides["host"],
        device=sides["device"],
        params=tuple(params),
        weights={name: tuple(names) for name, names in program.weights.items()},
        derivations=program.derivations,
        versions=versions(),
        sha256=sha256,
    )
    document = {"schema": _SCHEMA, "kind": _KIND, **asdict(manifest)}
    (folder / _MANIFEST).write_text(json.dumps(document, indent=1) + "\n")


def load(
    folder: Path | str, *, session: str = "inline", timeout_s: float = 60.0, trust: bool = False
) -> Bundle:
    """Load a bundle. It is native code, so load only bundles from people whom you trust.

    Its bytecode is checked, and a child process loads its code first, so that a damaged bundle
    raises an error and does not crash this process. That does not make a bundle harmless.

    Parameters
    ----------
    folder
        From ``write_bundle``.
    session
        Where the device part runs: in this process, or as ``open_session`` takes it.
    timeout_s
        How long one device call may take.
    trust
        Whether its bytecode may call any function that TVM has registered, and not only those on
        the list of harmless functions.

    Raises
    ------
    StoreError
        The folder is not a bundle, damaged, or of another schema; it was built for a CPU with
        instructions that this machine's lacks; or its bytecode calls a function that is not on the
        list and ``trust`` is false.
    DeviceUnavailable
        No session could be opened.
    DeviceFault
        The device cannot load its part.
    """
    folder = Path(folder)
    manifest = _checked_manifest(folder)
    path = folder / _MANIFEST
    source, target = (_target(text, path) for text in (manifest.source, manifest.target))
    _check_cpu(folder, manifest.host, source)
    if manifest.device.bytecode and session in platform_of(target).sessions():
        _check_cpu(folder, manifest.device, target)
    try:
        params = parse_tensors(map_file(folder / _PARAMS, fix=_FIX, max_bytes=MAX_WEIGHTS_BYTES))
        weights = {name: params[name] for name in manifest.params}
    except (KeyError, ValueError) as error:
        why = f"{_PARAMS} has no weight {error}" if isinstance(error, KeyError) else error
        raise StoreError(f"{path} does not describe the bundle: {why}. {_FIX}") from error
    program = PartitionedProgram(
        boundary=_boundary(folder, manifest),
        host=_functions(folder, manifest.host),
        device=_functions(folder, manifest.device) if manifest.device.bytecode else None,
        weights=manifest.weights,
        calls=(),
        derivations=manifest.derivations,
    )
    host_kernels = [folder / name for name in manifest.host.kernels]
    bytecode = {folder / str(manifest.host.bytecode): program.host.bytecode}
    if program.device is not None:
        bytecode[folder / str(manifest.device.bytecode)] = program.device.bytecode
    check_code(bytecode, [*program.host.shape_functions, *host_kernels], trust=trust)
    opened = None
    if program.device is not None:
        opened = open_session(session, target, timeout_s=timeout_s)
    try:
        hybrid = HybridModule(
            Host(source, host_kernels, weights),
            program,
            opened,
            [folder / name for name in manifest.device.kernels],
        )
    except BaseException as error:
        if opened is not None:
            opened.close()
        if isinstance(error, TapmlError) or not isinstance(error, Exception):
            raise
        # Whatever TVM raises about files that do not belong together.
        raise StoreError(f"{folder} cannot be linked: {message_line(error)}. {_FIX}") from error
    return Bundle(hybrid, program, opened)


def _check_cpu(folder: Path, side: _Side, target: tvm.target.Target) -> None:
    """Raise ``StoreError`` if code of a side would end this process by an illegal instruction."""
    missing = missing_instruction_sets(side.instruction_sets)
    if missing:
        cpu = target.attrs.get("mcpu", "another CPU")
        raise StoreError(
            f"{folder} was built for {cpu}; the CPU of this machine lacks "
            f"{', '.join(map(repr, missing))}. Run the build again on this machine, or with a "
            'source and a target for any CPU: \'{"kind": "llvm", "mcpu": "x86-64"}\''
        )


def read_bundle_boundary(folder: Path) -> Boundary:
    """Return the boundary of a bundle. Raises ``StoreError`` as ``load`` does."""
    return _boundary(folder, _checked_manifest(folder))


def _boundary(folder: Path, manifest: _Manifest) -> Boundary:
    path = folder / _MANIFEST
    try:
        return Boundary.from_document(manifest.boundary, str(path))
    except UsageError as error:
        raise StoreError(f"{path} is damaged: {error}. {_FIX}") from error


class Bundle(Closing):
    """A loaded bundle: ``bundle["main"](*inputs)`` returns the outputs as a flat list.

    It may be used as a context manager; leaving it ends the device session.
    """

    def __init__(self, hybrid: HybridModule, program: PartitionedProgram, session: Any) -> None:
        self._hybrid = hybrid
        self._session = session
        self.boundary = program.boundary

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return an entry function that takes input arrays, without weights.

        See ``relax_tapml.frontend.model.Functions``. It raises ``StoreError`` for any error of TVM:
        the inputs do not fit, or the bundle is damaged in a way that no earlier check detects.
        """
        function = self._hybrid[name]

        def call(*inputs: Any) -> list[Any]:
            try:
                return function(*inputs)
            except TapmlError:
                raise
            except Exception as error:
                reason = error_line(error)
                raise StoreError(
                    f"{name} of the bundle raised {reason}. Check "
                    "the inputs. If they are right, the bundle is damaged: run the build again"
                ) from error

        return call

    def runtime(self, name: str) -> Callable[..., Any]:
        """Return a function of the runtime; see ``relax_tapml.frontend.model.Functions``."""
        return self._hybrid.runtime(name)

    def close(self) -> None:
        """End the device session. May be called twice."""
        if self._session is not None:
            self._session.close()


def _functions(folder: Path, side: _Side) -> CompiledFunctions:
    assert side.bytecode is not None
    path = folder / side.bytecode
    return CompiledFunctions(
        bytecode=read_bytes(path, fix=_FIX, max_bytes=MAX_JSON_BYTES),
        shape_functions=tuple(folder / name for name in side.shape_functions),
    )


def _checked_manifest(folder: Path) -> _Manifest:
    """Return the manifest of a bundle whose files are all there and unchanged."""
    manifest = _manifest_of(folder)
    for name in _files_of(manifest):
        file = folder / name
        if _sha256(file) != manifest.sha256.get(name):
            raise StoreError(f"{file} is damaged: its SHA-256 differs. {_FIX}")
    return manifest


def _files_of(manifest: _Manifest) -> list[str]:
    return sorted({_PARAMS, *manifest.host.files, *manifest.device.files, *manifest.sha256})


def _manifest_of(folder: Path) -> _Manifest:
    """Return the manifest of a bundle whose files are all there."""
    path = folder / _MANIFEST
    if not path.exists() and not path.is_symlink():
        raise StoreError(
            f"{folder} is not a bundle: it has no {_MANIFEST}. Expected DIR/bundle of a build"
        )
    document = read_json(path, fix=_FIX)
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise StoreError(f"{path} does not describe a bundle. Expected DIR/bundle of a build")
    schema = document.get("schema")
    if schema != _SCHEMA or isinstance(schema, bool):
        raise StoreError(
            f"{path}: expected schema {_SCHEMA}, got {schema!r}. Another version wrote it: run "
            "the build again"
        )
    manifest = typed(document, _Manifest, path, fix=_FIX)
    for name in _files_of(manifest):
        listed_file(folder, name, by=path, fix=_FIX)
    return manifest


def _target(text: str, path: Path) -> tvm.target.Target:
    try:
        return tvm.target.Target(text)
    except Exception as error:  # Whatever TVM raises about it.
        raise StoreError(f"{path} is damaged: target {text!r}: {error}. {_FIX}") from error


def _sha256(path: Path) -> str:
    return sha256_of(path, fix=_FIX, max_bytes=MAX_WEIGHTS_BYTES)
