"""A partitioned program as a folder that runs anywhere."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tvm

from relax_tapml.errors import StoreError, TapmlError, UsageError
from relax_tapml.foreign.names import told
from relax_tapml.frontend.model import Array
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.bundle_code import check_code
from relax_tapml.partition.bytecode import CompiledFunctions
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.program import PartitionedProgram
from relax_tapml.targets.open import open_session
from relax_tapml.tensor_file import dump_tensors, parse_tensors

_SCHEMA = 3
_KIND = "relax_tapml.bundle"
_MANIFEST = "manifest.json"
_PARAMS = "params.safetensors"


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
    """Write a bundle, all of it or nothing, replacing an older one.

    The folder has the bytecode of both sides, their kernels, the weights and ``manifest.json`` with
    the boundary, the targets, versions and the SHA-256 of every file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _fill(scratch / "new", program, host_kernels, device_kernels, params, source, target)
        if folder.exists():
            folder.rename(scratch / "old")
        (scratch / "new").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(
    folder: Path,
    program: PartitionedProgram,
    host_kernels: Sequence[Path],
    device_kernels: Sequence[Path],
    params: Mapping[str, Array],
    source: tvm.target.Target,
    target: tvm.target.Target,
) -> None:
    folder.mkdir()
    sides: dict[str, dict[str, Any]] = {}
    for side, functions, kernels in (
        ("host", program.host, host_kernels),
        ("device", program.device, device_kernels),
    ):
        if functions is None:
            sides[side] = {"bytecode": None, "shape_functions": [], "kernels": []}
            continue
        (folder / f"{side}.vm").write_bytes(functions.bytecode)
        (folder / side).mkdir()
        for path in (*functions.shape_functions, *kernels):
            shutil.copyfile(path, folder / side / path.name)
        sides[side] = {
            "bytecode": f"{side}.vm",
            "shape_functions": [f"{side}/{path.name}" for path in functions.shape_functions],
            "kernels": [f"{side}/{path.name}" for path in kernels],
        }
    (folder / _PARAMS).write_bytes(dump_tensors(params))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    document = {
        "schema": _SCHEMA,
        "kind": _KIND,
        "boundary": program.boundary.document(),
        "source": str(source),
        "target": str(target),
        **sides,
        "params": list(params),
        "weights": {name: list(names) for name, names in program.weights.items()},
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("relax-tapml", "apache-tvm", "apache-tvm-ffi")
        },
        "sha256": {str(path.relative_to(folder)): _sha256(path) for path in files},
    }
    (folder / _MANIFEST).write_text(json.dumps(document, indent=1) + "\n")


def load(
    folder: Path | str, *, session: str = "inline", timeout_s: float = 60.0, trust: bool = False
) -> Bundle:
    """Load a bundle, which is native code: it must come from somebody who may run any code here.

    Its bytecode is checked, and a child process loads its code first, so that a damaged bundle is
    an error and no crash. That does not make a bundle harmless.

    Parameters
    ----------
    folder
        From ``write_bundle``.
    session
        Where the device part runs: in this process, or as ``open_session`` takes it.
    timeout_s
        How long one device call may take.
    trust
        Whether its bytecode may call any function that TVM has registered, and not only those that
        are known to be harmless.

    Raises
    ------
    StoreError
        The folder is no bundle, damaged, or of another schema; or it calls what is not known to be
        harmless and ``trust`` is false.
    DeviceUnavailable
        No session could be opened.
    """
    folder = Path(folder)
    manifest = _checked_manifest(folder)
    host = manifest["host"]
    device = manifest["device"]
    params = parse_tensors((folder / _PARAMS).read_bytes())
    program = PartitionedProgram(
        boundary=_boundary(folder, manifest),
        host=_functions(folder, host),
        device=_functions(folder, device) if device["bytecode"] else None,
        weights=manifest["weights"],
        calls=(),
    )
    bytecode = {folder / host["bytecode"]: program.host.bytecode}
    if program.device is not None:
        bytecode[folder / device["bytecode"]] = program.device.bytecode
    loaded_here = [*program.host.shape_functions, *(folder / name for name in host["kernels"])]
    check_code(bytecode, loaded_here, trust=trust)
    opened = None
    if program.device is not None:
        opened = open_session(session, tvm.target.Target(manifest["target"]), timeout_s=timeout_s)
    try:
        hybrid = HybridModule(
            Host(
                tvm.target.Target(manifest["source"]),
                [folder / name for name in host["kernels"]],
                {name: params[name] for name in manifest["params"]},
            ),
            program,
            opened,
            [folder / name for name in device["kernels"]],
        )
    except BaseException as error:
        if opened is not None:
            opened.close()
        if isinstance(error, TapmlError) or not isinstance(error, Exception):
            raise
        raise StoreError(
            f"{folder} cannot be linked: {told(str(error))}. Run the build again"
        ) from error
    return Bundle(hybrid, program, opened)


def read_bundle_boundary(folder: Path) -> Boundary:
    """Return the boundary of a bundle. Raises ``StoreError`` as ``load`` does."""
    return _boundary(folder, _checked_manifest(folder))


def _boundary(folder: Path, manifest: Mapping[str, Any]) -> Boundary:
    path = folder / _MANIFEST
    try:
        return Boundary.from_document(manifest.get("boundary"), str(path))
    except UsageError as error:
        raise StoreError(f"{path} is damaged: {error}. Run the build again") from error


class Bundle:
    """A loaded bundle: ``bundle["main"](*inputs)`` returns the outputs as a flat list.

    It may be used as a context manager; leaving it ends the device session.
    """

    def __init__(self, hybrid: HybridModule, program: PartitionedProgram, session: Any) -> None:
        self._hybrid = hybrid
        self._session = session
        self.boundary = program.boundary

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return an entry function that takes input arrays, without weights.

        See ``relax_tapml.frontend.model.Functions``. It raises ``StoreError`` where TVM raises
        anything: the inputs do not fit, or the bundle is damaged in a way that only shows now.
        """
        function = self._hybrid[name]

        def call(*inputs: Any) -> list[Any]:
            try:
                return function(*inputs)
            except TapmlError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {told(str(error))}"
                raise StoreError(
                    f"{name} of the bundle raised {reason}. Check "
                    "the inputs; if they are right, the bundle is damaged: run the build again"
                ) from error

        return call

    def close(self) -> None:
        """End the device session. May be called twice."""
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _functions(folder: Path, side: Mapping[str, Any]) -> CompiledFunctions:
    return CompiledFunctions(
        bytecode=(folder / side["bytecode"]).read_bytes(),
        shape_functions=tuple(folder / name for name in side["shape_functions"]),
    )


def _checked_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} is no bundle: it has no {_MANIFEST}. Expected DIR/bundle of a build"
        ) from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}. Run the build again") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        raise StoreError(f"{path} does not describe a bundle. Expected DIR/bundle of a build")
    if manifest.get("schema") != _SCHEMA:
        raise StoreError(
            f"{path}: expected schema {_SCHEMA}, got {manifest.get('schema')!r}. Another version "
            "wrote it: run the build again"
        )
    try:
        _check_files(path, manifest["sha256"], _file_names(manifest))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged: {error!r}. Run the build again") from error
    return manifest


def _file_names(manifest: Mapping[str, Any]) -> set[str]:
    names = {_PARAMS}
    for side in (manifest["host"], manifest["device"]):
        names.update(side["shape_functions"], side["kernels"])
        if side["bytecode"] is not None:
            names.add(side["bytecode"])
    return names


def _check_files(path: Path, digests: Mapping[str, str], names: set[str]) -> None:
    folder = path.parent
    for name in sorted(names | digests.keys()):
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{path}: {name!r} is outside the bundle. Run the build again")
        if not file.is_file():
            raise StoreError(f"{file} is missing. Run the build again")
        if _sha256(file) != digests.get(name):
            raise StoreError(f"{file} is damaged: its SHA-256 differs. Run the build again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
