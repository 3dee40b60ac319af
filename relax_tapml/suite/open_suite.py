"""A suite on disk, checked before anything of it is used.

Everything is JSON and safetensors, apart from the pytest files, which this module never runs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import Call, Op
from tvm_ffi import structural_walk

from relax_tapml import tensor_file
from relax_tapml.arrays import Allocate, Array, dtype_named, empty_aligned
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.mapped import SHARED_BYTES, map_file, shared_array
from relax_tapml.files.read import (
    MAX_JSON_BYTES,
    listed_file,
    open_file,
    read_bytes,
    sha256_of,
)
from relax_tapml.foreign.module import check_modules, read_module
from relax_tapml.foreign.names import first_fault, symbol_fault, text_fault
from relax_tapml.partition.kernel_interface import KernelInterface
from relax_tapml.partition.target_kernels import TargetKernels
from relax_tapml.passes.operator_call import leaf_types
from relax_tapml.suite import _encoded_file
from relax_tapml.suite._made_tensors import MadeTensors
from relax_tapml.suite.manifest import (
    MANIFEST,
    Manifest,
    SuiteCase,
    SuiteKernels,
    SuiteOutput,
    SuiteTensor,
    SuiteUnit,
)
from relax_tapml.suite.manifest_file import CARVE_AGAIN, read_manifest
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.toolchain.low_precision_math import LowPrecisionMath

_LARGE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Suite:
    """A suite on disk whose files were checked when it was opened; see ``open_suite``.

    Parameters
    ----------
    folder
        Where it is.
    manifest
        Its cases, tensors and files.
    is_low_precision
        Whether its tolerances are those of devices with elementary functions of low precision.
    low_precision_math
        Of the device that it is opened for; None if it has none, or is not known.
    trust
        Whether its units may call anything outside themselves.
    target
        What it is opened for; None for the source.
    """

    folder: Path
    manifest: Manifest
    is_low_precision: bool = False
    low_precision_math: LowPrecisionMath | None = None
    trust: bool = False
    target: tvm.target.Target | None = None
    _modules: dict[str, tvm.IRModule] = field(default_factory=dict, repr=False)
    # The cases of a unit share them.
    _made: MadeTensors = field(default_factory=MadeTensors, repr=False)

    def for_target(self, target: Any) -> Suite:
        """Return the same suite, opened for a ``tvm.target.Target``; no file is read again."""
        allowed = platform_of(target).low_precision_math(target)
        return replace(self, low_precision_math=allowed, target=target)

    def low_precision(self) -> Suite:
        """Return the same suite for devices with elementary functions of low precision."""
        return replace(self, is_low_precision=True)

    def as_allowed(self, unit: str) -> Suite:
        """Return the suite with the widest tolerances that the device may use in a unit.

        That is ``low_precision()`` where the unit calls such a function of the device.
        """
        allowed = self.low_precision_math
        if self.is_low_precision or allowed is None:
            return self
        return self.low_precision() if allowed.names & called(self.target_module(unit)) else self

    def unit(self, name: str) -> SuiteUnit:
        """Return a unit. Raises ``UsageError`` if the suite has no case of it."""
        known = self.manifest.units
        if name not in known:
            why = self.manifest.skipped.get(name)
            close = difflib.get_close_matches(name, known) or list(known)[:5]
            text = f"it was not carved: {why}" if why else f"it has {', '.join(close)}"
            raise UsageError(f"suite {self.folder} has no case of unit {name!r}; {text}")
        return known[name]

    def case(self, unit: str, name: str) -> SuiteCase:
        """Return a case of a unit. Raises ``UsageError`` if there is none of that name."""
        cases = self.unit(unit).cases
        found = next((case for case in cases if case.name == name), None)
        if found is None:
            raise UsageError(
                f"unit {unit} of suite {self.folder} has no case {name!r}; it has "
                f"{', '.join(case.name for case in cases)}"
            )
        return found

    def module(self, unit: str) -> tvm.IRModule:
        """Return a unit's module, read on first use; it must not be changed.

        Raises
        ------
        StoreError
            TVM cannot read it, or it lacks the function of a case.
        """
        if unit not in self._modules:
            self._modules[unit] = self._read_module(unit)
        return self._modules[unit]

    def target_module(self, unit: str) -> tvm.IRModule:
        """Return a unit's module with the kernels that the suite's target has in the place of some.

        It is ``module`` for most units and for the source, and where ``lacking`` has a reason.

        Raises
        ------
        StoreError
            As ``module``; or the kernels are not those of the unit.
        """
        module = self.module(unit)
        kernels = self._kernels(unit)
        if kernels is None or kernels.file is None:
            return module
        own = {gvar.name_hint: gvar for gvar in module.functions}
        result = module.clone()
        for name, kernel in self._target_kernels(kernels.file, module).items():
            result.update_func(own[name], kernel)
        return result

    def kernels_by_target(self, unit: str) -> dict[str, dict[str, tirx.PrimFunc] | str]:
        """Return by target the kernels that a unit has there in the place of some, or why not."""
        return {
            target: kernels.reason
            if kernels.file is None
            else self._target_kernels(kernels.file, self.module(unit))
            for target, kernels in self.manifest.units[unit].targets.items()
        }

    def target_kernels(self) -> TargetKernels:
        """Return the kernels of all units that the suite's target has in the place of some."""
        kernels: dict[str, tirx.PrimFunc] = {}
        for unit in self.manifest.units:
            found = self._kernels(unit)
            if found is not None and found.file is not None:
                kernels.update(self._target_kernels(found.file, self.module(unit)))
        lacking = {unit: why for unit in self.manifest.units if (why := self.lacking(unit))}
        return TargetKernels(kernels=kernels, lacking=lacking)

    def lacking(self, unit: str) -> str:
        """Return why a unit has no kernels for the suite's target; empty if it has."""
        entry = self.manifest.units[unit]
        kernels = self._kernels(unit)
        if kernels is not None:
            return kernels.reason
        if not entry.targets or self._is_of_source or self._is_known:
            return ""
        there = ", ".join(entry.targets)
        return (
            f"its kernels are made for the source, {self.manifest.source}; the suite has others "
            f"for {there}, and none for {target_text(self.target)}. Run the build for that "
            "target, in the output folder of the suite with --resume"
        )

    def _kernels(self, unit: str) -> SuiteKernels | None:
        if self.target is None:
            return None
        return self.manifest.units[unit].targets.get(target_text(self.target))

    @property
    def _is_known(self) -> bool:
        return self.target is None or target_text(self.target) in self.manifest.targets

    @cached_property
    def _is_of_source(self) -> bool:
        """Whether the suite's target is of the kind of its source."""
        if self.target is None:
            return True
        return bool(tvm.target.Target(self.manifest.source).kind.name == self.target.kind.name)

    def _target_kernels(self, file: str, module: tvm.IRModule) -> dict[str, tirx.PrimFunc]:
        if file not in self._modules:
            self._modules[file] = self._read_kernels(file)
        own = {gvar.name_hint: function for gvar, function in module.functions.items()}
        found = {g.name_hint: kernel for g, kernel in self._modules[file].functions.items()}
        for name, kernel in found.items():
            if not _stands_for(kernel, own.get(name)):
                raise StoreError(
                    f"{self.folder / file}: {name} is no kernel of its unit, or has another "
                    f"interface. {CARVE_AGAIN}"
                )
        return found

    def _read_kernels(self, file: str) -> tvm.IRModule:
        path, fix = self.folder / file, _fix(self.manifest)
        data = read_bytes(path, fix=fix, max_bytes=MAX_JSON_BYTES)
        return read_module(data, str(path), fix=fix, trust=self.trust)

    def _read_module(self, unit: str) -> tvm.IRModule:
        entry = self.manifest.units[unit]
        path = self.folder / entry.module
        fix = _fix(self.manifest)
        data = read_bytes(path, fix=fix, max_bytes=MAX_JSON_BYTES)
        module = read_module(data, str(path), fix=fix, trust=self.trust)
        names = {gvar.name_hint for gvar in module.functions}
        missing = {case.function for case in entry.cases} - names
        if missing:
            raise StoreError(f"{path} has no function {', '.join(sorted(missing))}. {CARVE_AGAIN}")
        for case in entry.cases:
            fault = _call_fault(case, module[case.function])
            if fault:
                raise StoreError(
                    f"{path}: case {case.name} of unit {unit} has {fault}. {CARVE_AGAIN}"
                )
        return module

    def tensor(self, digest: str) -> Array:
        """Read a tensor, in its own dtype; it must not be changed.

        Raises
        ------
        StoreError
            The file does not hold a tensor of the dtype and shape in the manifest, or a recipe
            makes another tensor than it did.
        """
        entry = self.manifest.tensors[digest]
        if not _is_made(entry):
            return self._make(digest)
        return self._made.take(digest, _size_bytes(entry), lambda: self._make(digest))

    def expect(self, digests: Sequence[str]) -> None:
        """Tell which tensors are read from now on, in order: what is made of others is kept so."""
        tensors = self.manifest.tensors
        self._made.expect([digest for digest in digests if _is_made(tensors[digest])])

    def make_ahead(self, digest: str) -> None:
        """Make an expected tensor as soon as there is room for it; see ``MadeTensors``.

        Raises
        ------
        StoreError
            As ``tensor``.
        """
        size_bytes = _size_bytes(self.manifest.tensors[digest])
        self._made.make_ahead(digest, size_bytes, lambda: self._make(digest))

    def is_large(self, digest: str) -> bool:
        """Whether making a tensor takes so long that it pays to do it in another thread."""
        entry = self.manifest.tensors[digest]
        return _is_made(entry) and _size_bytes(entry) >= _LARGE_BYTES

    def is_compared_there(self, output: SuiteOutput) -> bool:
        """Whether a result is compared with its oracle where it is before it crosses.

        That is where it is large and should be the same, which it nearly always is to the bit.
        """
        size_bytes = _size_bytes(self.manifest.tensors[output.tensor])
        return output.tolerance.kind == EqualTolerance.kind and size_bytes >= SHARED_BYTES

    def forget_made(self) -> None:
        """Free the tensors that are kept because they took time to make, and are not expected."""
        self._made.forget()

    def _make(self, digest: str) -> Array:
        entry = self.manifest.tensors[digest]
        # A device of this machine maps what it takes; other memory takes less time to get.
        allocate = shared_array if digest in self._shared else empty_aligned
        if entry.file is None:
            return self._generated(digest, entry, allocate)
        return self._read(entry.file, entry, allocate)

    @cached_property
    def _shared(self) -> frozenset[str]:
        """What cases give to a device, or compare there."""
        units = self.manifest.units.values()
        cases = [case for unit in units for case in unit.cases]
        given = (item.tensor for case in cases for item in case.inputs)
        outputs = (output for case in cases for output in case.outputs)
        return frozenset((*given, *(o.tensor for o in outputs if self.is_compared_there(o))))

    def _read(self, file: str, entry: SuiteTensor, allocate: Allocate) -> Array:
        path = self.folder / file
        try:
            data = map_file(path, fix=CARVE_AGAIN, max_bytes=tensor_file.MAX_TENSOR_BYTES)
            if entry.is_encoded:
                array = _encoded_file.parse(data, entry, allocate=allocate)
            else:
                array = tensor_file.parse_tensor(
                    data,
                    entry.dtype,
                    entry.shape,
                    rows=entry.rows,
                    axis=entry.axis,
                    allocate=allocate,
                )
        except (ValueError, MemoryError) as error:
            fault = error if isinstance(error, ValueError) else "out of memory"
            raise StoreError(f"{path}: {fault}. {CARVE_AGAIN}") from error
        if entry.whole is not None and sha256_of_array(array) != entry.whole:
            raise StoreError(
                f"{path}: the places that it does not hold are not filled as they were. "
                f"Use {_versions(self.manifest)}, or carve the suite again"
            )
        return array

    def _generated(self, digest: str, entry: SuiteTensor, allocate: Allocate) -> Array:
        assert entry.recipe is not None
        where = self.folder / MANIFEST
        try:
            array = entry.recipe.array(entry.dtype, entry.shape, allocate=allocate)
        except (ValueError, MemoryError) as error:
            raise StoreError(f"{where}: tensor {digest}: {error}. {CARVE_AGAIN}") from error
        made = digest_of_array(array)
        # Suites of schema 3 know tensors by what was their file.
        if made != digest and tensor_file.sha256_of_tensor(array) != digest:
            raise StoreError(
                f"{where}: tensor {digest} is made by a recipe, which makes {made} here. "
                f"Use {_versions(self.manifest)}, or carve the suite again"
            )
        return array


def open_suite(folder: Path | str, target: Any = None, *, trust: bool = False) -> Suite:
    """Open a suite, after checking that every file is there and is the one that was written.

    The modules of its units are checked too, in a child process (``foreign.module``), and what they
    call outside themselves.

    Parameters
    ----------
    folder
        A suite, or an output folder with a suite in ``tests``.
    target
        The ``tvm.target.Target`` that its tolerances are for; by default the source's.
    trust
        Whether its units may call anything outside themselves.

    Raises
    ------
    StoreError
        There is no suite; its schema is older or newer; its manifest was changed or names a path
        outside the folder; a file is missing, was changed, or is a tensor of another dtype or
        shape. Pytest files must be there, and may have been edited. A name in it is invalid, a
        unit cannot be read, or calls something that is not known to be harmless.
    """
    folder = Path(folder).resolve()
    if not (folder / MANIFEST).exists() and (folder / "tests" / MANIFEST).exists():
        folder = folder / "tests"
    manifest = read_manifest(folder / MANIFEST)
    for name in manifest.sha256:
        listed_file(folder, name, by=folder / MANIFEST, fix=CARVE_AGAIN)
    _check_names(folder / MANIFEST, manifest)
    held = {tensor.file for tensor in manifest.tensors.values()}
    for name, sha256 in manifest.sha256.items():
        max_bytes = tensor_file.MAX_TENSOR_BYTES if name in held else MAX_JSON_BYTES
        _check_content(folder, name, sha256, max_bytes)
    for tensor in manifest.tensors.values():
        if tensor.file is not None:
            _check_tensor(folder / tensor.file, tensor)
    fix = _fix(manifest)
    units = manifest.units.values()
    of_targets = (k.file for u in units for k in u.targets.values() if k.file is not None)
    paths = [folder / name for name in (*(unit.module for unit in units), *of_targets)]
    contents = {str(path): read_bytes(path, fix=fix, max_bytes=MAX_JSON_BYTES) for path in paths}
    check_modules(contents, fix=fix, trust=trust)
    suite = Suite(folder=folder, manifest=manifest, trust=trust)
    return suite if target is None else suite.for_target(target)


def _stands_for(kernel: tvm.ir.BaseFunc, replaced: tvm.ir.BaseFunc | None) -> bool:
    """Whether a kernel can be called as the one that it replaces is."""
    if not (isinstance(kernel, tirx.PrimFunc) and isinstance(replaced, tirx.PrimFunc)):
        return False
    return KernelInterface.of(kernel).fits(KernelInterface.of(replaced))


def target_text(target: tvm.target.Target) -> str:
    """Return a target in the form that manifests have: its whole JSON, in one order."""
    return json.dumps(json.loads(str(target)), sort_keys=True)


def sha256_of_array(array: Array) -> str:
    """Return the SHA-256 of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def digest_of(entry: SuiteTensor, sha256: str) -> str:
    """Return the name of a tensor in a manifest: what it is, and the SHA-256 of its file."""
    axes = [(item.axis, item.held) for item in entry.copied]
    held = f"{entry.rows} {entry.axis} {axes} {entry.table}"
    named = f"{sha256} {entry.dtype} {list(entry.shape)} {held}"
    return hashlib.sha256(named.encode()).hexdigest()


def digest_of_array(array: Array) -> str:
    """Return the name of a tensor whose file holds it as it is, or would, without a copy of it."""
    sha256 = tensor_file.sha256_of_tensor(array.reshape(-1))
    return digest_of(SuiteTensor(file="", dtype=array.dtype.name, shape=array.shape), sha256)


def called(module: tvm.IRModule) -> frozenset[str]:
    """Return the functions that a module's kernels call, as ``LowPrecisionMath`` names them."""
    names: set[str] = set()

    def visit(call: Any) -> None:
        if isinstance(call.op, Op):
            names.add(call.op.name.rpartition(".")[2])

    for function in module.functions.values():
        if isinstance(function, tirx.PrimFunc):
            structural_walk(function.body, (Call, visit))
    return frozenset(names)


def _check_names(path: Path, manifest: Manifest) -> None:
    """Refuse invalid names, and texts that a terminal would take for commands."""
    cases = [case for unit in manifest.units.values() for case in unit.cases]
    fault = first_fault(
        [
            *manifest.units,
            *(name for case in cases for name in (case.name, case.site, case.sample)),
            *(item.weight for case in cases for item in case.inputs if item.weight is not None),
        ]
    )
    fault = fault or next(filter(None, (symbol_fault(case.function) for case in cases)), "")
    fault = fault or next(filter(None, map(text_fault, _texts(asdict(manifest)))), "")
    if fault:
        raise StoreError(f"{path} is damaged: {fault}. {CARVE_AGAIN}")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _check_content(folder: Path, name: str, sha256: str, max_bytes: int) -> None:
    path = folder / name
    actual = sha256_of(path, fix=CARVE_AGAIN, max_bytes=max_bytes)
    if actual != sha256 and path.suffix != ".py":
        raise StoreError(
            f"{path} was changed or cut short: expected SHA-256 {sha256}, got {actual}. "
            f"{CARVE_AGAIN}"
        )


def _check_tensor(path: Path, tensor: SuiteTensor) -> None:
    try:
        with open_file(path, fix=CARVE_AGAIN, max_bytes=tensor_file.MAX_TENSOR_BYTES) as file:
            if tensor.is_encoded:
                _encoded_file.check(file, tensor)
            else:
                tensor_file.check_header(
                    file, tensor.dtype, tensor.shape, rows=tensor.rows, axis=tensor.axis
                )
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: {error}. {CARVE_AGAIN}") from error


def _is_made(entry: SuiteTensor) -> bool:
    """Return whether a tensor is more than the bytes of its file."""
    return entry.file is None or entry.rows is not None or entry.is_encoded


def _size_bytes(entry: SuiteTensor) -> int:
    return math.prod(entry.shape) * dtype_named(entry.dtype).itemsize


def _call_fault(case: SuiteCase, function: tvm.ir.BaseFunc) -> str:
    """Return how a case does not fit the function that does its call, empty if it fits."""
    if not isinstance(function, relax.Function):
        return f"a {type(function).__name__} for its function"
    if len(case.inputs) != len(function.params):
        return f"{len(case.inputs)} inputs, its function takes {len(function.params)}"
    returned = len(leaf_types(function.ret_ty))
    if len(case.outputs) != returned:
        return f"{len(case.outputs)} outputs, its function returns {returned}"
    return ""


def _fix(manifest: Manifest) -> str:
    return f"Use {_versions(manifest)}, or carve the suite again"


def _versions(manifest: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
