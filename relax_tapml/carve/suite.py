"""Writing a suite: a folder of cases that runs under pytest, anywhere."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue, Value
from relax_tapml.carve import tensor_file
from relax_tapml.carve.choose import Case
from relax_tapml.carve.manifest import (
    MANIFEST,
    Manifest,
    SuiteCase,
    SuiteInput,
    SuiteOutput,
    SuiteTensor,
    SuiteUnit,
)
from relax_tapml.carve.manifest_file import dump_manifest
from relax_tapml.carve.pytest_file import (
    CONFIG,
    CONFIG_NAME,
    SKIPPED_NAME,
    FileStems,
    identifier,
    render_skipped,
    render_unit,
)
from relax_tapml.carve.replace_folder import check_replaceable, replacing
from relax_tapml.carve.slow import slow_cases
from relax_tapml.carve.suite_tolerance import SuiteTolerance
from relax_tapml.carve.tolerances import suite_tolerance
from relax_tapml.carve.unit_module import NotCarvableError, case_function, unit_module
from relax_tapml.compare.tolerance import tolerance_for
from relax_tapml.errors import UsageError
from relax_tapml.frontend.model import Array
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.targets.tensors import check_dtype

_DISTRIBUTIONS = ("relax-tapml", "apache-tvm", "apache-tvm-ffi")
Recorded = TensorValue | ParameterValue


def write_suite(
    folder: Path | str,
    cases: Sequence[Case],
    *,
    lowered: tvm.IRModule,
    store: CaptureStore,
    source: Any,
    replace: bool = False,
) -> Manifest:
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
    replace
        Whether an existing folder is replaced.

    Returns
    -------
    Manifest
        What was written. ``skipped`` names every unit of ``lowered`` without a case.

    Raises
    ------
    UsageError
        The folder exists, is not empty, and ``replace`` is false.
    """
    folder = Path(folder)
    check_replaceable(folder, replace=replace)
    with replacing(folder) as scratch:
        return _Writer(scratch, lowered, store, source).write(cases)


class _Writer:
    """Writes the files of one suite into a folder that nobody else sees yet."""

    def __init__(
        self, folder: Path, lowered: tvm.IRModule, store: CaptureStore, source: Any
    ) -> None:
        self._folder = folder
        self._lowered = lowered
        self._store = store
        self._source = str(source)
        self._calls = {site.id: (site, call) for site, call in annotated_calls(lowered)}
        self._stems = FileStems()
        self._tensors: dict[str, SuiteTensor] = {}
        self._digests: dict[Recorded, str] = {}
        self._skipped: dict[str, str] = {}
        self._skipped_sites: dict[str, str] = {}
        self._sha256: dict[str, str] = {}

    def write(self, cases: Sequence[Case]) -> Manifest:
        by_unit: dict[str, list[Case]] = {site.unit: [] for site, _ in self._calls.values()}
        for case in cases:
            by_unit[case.unit].append(case)
        written = {unit: self._write_unit(unit, chosen) for unit, chosen in by_unit.items()}
        self._write_file(CONFIG_NAME, CONFIG.encode())
        skipped = {**self._skipped, **self._skipped_sites}
        if skipped:
            self._write_file(SKIPPED_NAME, render_skipped(skipped).encode())
        manifest = Manifest(
            source=self._source,
            versions={name: importlib.metadata.version(name) for name in _DISTRIBUTIONS},
            units={name: unit for name, unit in written.items() if unit is not None},
            tensors=self._tensors,
            skipped=self._skipped,
            skipped_sites=self._skipped_sites,
            sha256=self._sha256,
        )
        (self._folder / MANIFEST).write_bytes(dump_manifest(manifest))
        return manifest

    def _write_unit(self, unit: str, cases: Sequence[Case]) -> SuiteUnit | None:
        functions: dict[str, relax.Function] = {}
        described: list[SuiteCase] = []
        reasons: dict[str, str] = {}
        for case in cases:
            site, call = self._calls[case.record.site]
            try:
                function = case_function(self._lowered, call, case.record, self._weight_type)
                self._check_dtypes(case.record)
            except NotCarvableError as error:
                reasons[site.id] = str(error)
                continue
            name = f"{identifier(site.function)}-{site.ordinal:03d}-case{len(described)}"
            described.append(self._describe(name, case, call, _named(functions, function)))
        if not described:
            self._skipped[unit] = next(iter(reasons.values()), self._why_never(unit))
            return None
        self._skipped_sites.update(reasons)
        module = unit_module(self._lowered, functions)
        stem = self._stems.stem(unit)
        entry = SuiteUnit(
            module=f"units/{stem}.json", test=f"test_{stem}.py", cases=tuple(described)
        )
        self._write_file(entry.module, tvm.ir.save_json(module).encode())
        slow = slow_cases(module, described, self._tensors)
        test = render_unit(stem, unit, described, script=module.script(), slow=slow)
        self._write_file(entry.test, test.encode())
        return entry

    def _describe(self, name: str, case: Case, call: relax.Call, function: str) -> SuiteCase:
        record = case.record
        found = operator_call(call, self._lowered)
        return SuiteCase(
            name=name,
            site=record.site,
            sample=record.sample,
            frame=record.frame,
            call=record.call,
            function=function,
            may_write=found is not None and found.may_write,
            inputs=tuple(
                SuiteInput(
                    tensor=self._write_tensor(value),
                    weight=value.name if isinstance(value, ParameterValue) else None,
                )
                for value in _tensors(record.inputs)
            ),
            outputs=tuple(
                self._output(case, index, value)
                for index, value in enumerate(_tensors(record.outputs or ()))
            ),
            reason=case.reason,
        )

    def _output(self, case: Case, index: int, value: Recorded) -> SuiteOutput:
        tensor = self._write_tensor(value)
        return SuiteOutput(
            tensor=tensor, tolerance=self._tolerance(case, index, self._array(value))
        )

    def _tolerance(self, case: Case, index: int, array: Array) -> SuiteTolerance:  # noqa: ARG002
        """Return what output ``index`` of a case, ``array``, is held to."""
        return suite_tolerance(tolerance_for(array), write=self._write_array, inputs=())

    def _array(self, value: Recorded) -> Array:
        if isinstance(value, ParameterValue):
            return self._store.parameter(value.name)
        return self._store.tensor(value.digest)

    def _weight_type(self, name: str) -> relax.TensorType:
        array = self._store.parameter(name)
        return relax.TensorType(array.shape, array.dtype.name)

    def _check_dtypes(self, record: CallRecord) -> None:
        """Raise ``NotCarvableError`` if no device session could be sent one of the tensors."""
        for value in _tensors((*record.inputs, *(record.outputs or ()))):
            array = self._array(value)
            if isinstance(value, TensorValue) and array.dtype.name != value.dtype:
                raise NotCarvableError(
                    f"it has a {value.dtype} tensor, which no device session can be sent"
                )
            try:
                check_dtype(array)
            except UsageError as error:
                raise NotCarvableError(str(error)) from error

    def _write_tensor(self, value: Recorded) -> str:
        """Write a tensor unless its content is there already; return the digest of its file."""
        if value not in self._digests:
            self._digests[value] = self._write_array(self._array(value))
        return self._digests[value]

    def _write_array(self, array: Array) -> str:
        data = tensor_file.dump(array)
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._tensors:
            file = f"data/{digest[:32]}.safetensors"
            self._write_file(file, data)
            self._tensors[digest] = SuiteTensor(
                file=file, dtype=array.dtype.name, shape=array.shape
            )
        return digest

    def _why_never(self, unit: str) -> str:
        for site, call in self._calls.values():
            found = operator_call(call, self._lowered)
            if site.unit == unit and found is not None and found.skip_reason is not None:
                return str(found.skip_reason)
        return "no call of it that returned was recorded"

    def _write_file(self, name: str, data: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self._sha256[name] = hashlib.sha256(data).hexdigest()


def _tensors(values: Iterable[Value]) -> list[Recorded]:
    return [value for value in values if isinstance(value, TensorValue | ParameterValue)]


def _named(functions: dict[str, relax.Function], function: relax.Function) -> str:
    """Return the name of a function among ``functions``, adding it unless its equal is there."""
    for name, known in functions.items():
        if tvm_ffi.structural_equal(known, function):
            return name
    name = "main" if not functions else f"main_{len(functions)}"
    functions[name] = function
    return name
