"""Run carved cases on a device, one unit alone at a time, and judge the results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import tvm
from tvm.ir import GlobalVar

from relax_tapml.carve.manifest import SuiteCase, SuiteInput
from relax_tapml.carve.open_suite import Suite
from relax_tapml.carve.submodule import submodule
from relax_tapml.carve.tolerances import read_tolerance
from relax_tapml.compare.comparison import Comparison, compare_all, worst
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceError, DeviceFault, DeviceTimeout, LoweringError
from relax_tapml.frontend.model import Array
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.prepare_side import prepare_side
from relax_tapml.targets.open import open_session
from relax_tapml.targets.session import DeviceModule, DeviceSession, DeviceTensor

Functions = dict[GlobalVar, tvm.ir.BaseFunc]


@dataclass(frozen=True, kw_only=True)
class CaseReplay:
    """How one case ended on the device.

    Parameters
    ----------
    unit, case
        Which one; ``case.site`` is the site it was recorded at.
    verdict
        ``skipped`` where there was nothing to compare.
    reason
        One sentence for people; empty for a pass.
    comparisons
        One for each output of the call, in order; empty where it did not run to its end.
    text
        What the device said, for a fault.
    """

    unit: str
    case: SuiteCase
    verdict: Verdict
    reason: str = ""
    comparisons: tuple[Comparison, ...] = ()
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class _Program:
    """Bytecode that calls some units, and the shared objects it needs."""

    bytecode: bytes
    kernels: tuple[Path, ...]


class Replayer:
    """One device and the kernels of a suite's units, built and loaded together when first used.

    A unit whose kernel does not build, or cannot be loaded, does not keep the others from running.
    After a crash or a timeout the rest goes on in a fresh session, and so it does after an error,
    because a failed kernel may leave a device unusable. A fault is blamed on a unit only if it
    also happens when the unit is the first to run in its session.

    Parameters
    ----------
    suite
        From ``open_suite``.
    target
        The ``tvm.target.Target`` to build for.
    session
        As for ``open_session``.
    device_pipeline
        A Relax pass applied to the units before they are scheduled and built, or None.
    kernels
        Folder of cached kernels. None for ``kernels`` next to the suite where there is one, or
        else a temporary folder.
    timeout_s
        How long one call on the device may take.
    units
        The units that will be run; all by default.
    """

    def __init__(
        self,
        suite: Suite,
        *,
        target: Any,
        session: str,
        device_pipeline: Any = None,
        kernels: Path | None = None,
        timeout_s: float = 60.0,
        units: Sequence[str] | None = None,
    ) -> None:
        self.suite = suite
        self._target = target
        self._session_spec = session
        self._pipeline = device_pipeline
        self._timeout_s = timeout_s
        self._units = tuple(suite.manifest.units) if units is None else tuple(units)
        self._temporary = tempfile.TemporaryDirectory(prefix="tapml-kernels-")
        if kernels is None:
            kernels = kernels_beside(suite) or Path(self._temporary.name)
        self._library = KernelLibrary(kernels)
        self._is_built = False
        self._functions: dict[tuple[str, str], str] = {}
        self._sides: dict[str, tvm.IRModule] = {}
        self._programs: dict[str, _Program] = {}
        self._failed: dict[str, str] = {}
        self._session: DeviceSession | None = None
        self._loaded: dict[_Program, DeviceModule] = {}
        self._ran: list[str] = []

    def __enter__(self) -> Replayer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the device session and remove temporary kernels."""
        self._end_session()
        self._temporary.cleanup()

    def build(self) -> None:
        """Build the units that will be run, unless that is done; ``run`` does it otherwise."""
        if not self._is_built:
            self._is_built = True
            self._build()

    def run(self, unit: str, case: SuiteCase) -> CaseReplay:
        """Run one case and compare every output with its oracle.

        Raises
        ------
        DeviceUnavailable
            No session could be opened.
        StoreError
            A file of the suite cannot be read.
        """
        self.build()
        company = list(self._ran)
        try:
            return self._attempt(unit, case)
        except DeviceFault as fault:
            self._end_session()
            if not company or isinstance(fault, DeviceTimeout):
                return _faulted(unit, case, fault)
            first = fault
        try:
            alone = self._attempt(unit, case)
        except DeviceFault as fault:
            self._end_session()
            return _faulted(unit, case, fault)
        others = ", ".join(dict.fromkeys(company))
        note = f"it runs alone, but failed after {others} in the same session: {first}"
        reason = f"{alone.reason}; {note}" if alone.reason else note
        return replace(alone, reason=reason, text=first.text)

    def _attempt(self, unit: str, case: SuiteCase) -> CaseReplay:
        module = None
        while module is None:
            if unit in self._failed:
                return CaseReplay(
                    unit=unit, case=case, verdict=Verdict.BUILD_ERROR, reason=self._failed[unit]
                )
            try:
                module = self._load(unit)
            except DeviceFault as fault:
                if self._split(unit):
                    self._end_session()
                elif isinstance(fault, DeviceError):
                    # Alive and yet unable to link: it needs what the device's runtime lacks.
                    self._failed[unit] = f"the device cannot load it: {fault}"
                else:
                    raise
        session = self._opened()
        self._ran.append(unit)
        arguments = [self._argument(session, case, item) for item in case.inputs]
        results = session.call(module, self._functions[unit, case.function], arguments)
        judged = self._judged(unit, case, [session.download(result) for result in results])
        overwritten = "" if case.may_write else self._overwritten(session, case, arguments)
        if not overwritten:
            return judged
        # Others in the session would get the wrong weights, and the blame.
        self._end_session()
        reason = f"{judged.reason}; {overwritten}" if judged.reason else overwritten
        return replace(judged, verdict=Verdict.MISMATCH, reason=reason)

    def _overwritten(
        self, session: DeviceSession, case: SuiteCase, arguments: Sequence[DeviceTensor]
    ) -> str:
        """Say which inputs a kernel changed that it may only read; empty if none."""
        for index, (item, argument) in enumerate(zip(case.inputs, arguments, strict=True)):
            if session.download(argument).tobytes() != self.suite.tensor(item.tensor).tobytes():
                return f"it writes to its input {index}, which it may only read"
        return ""

    def _argument(self, session: DeviceSession, case: SuiteCase, item: SuiteInput) -> DeviceTensor:
        array = self.suite.tensor(item.tensor)
        if item.weight is None or case.may_write:
            return session.upload(array)
        # By content: the weights of two layers may be the same, and a name alone says too little.
        return session.parameter(item.tensor, array)

    def _judged(self, unit: str, case: SuiteCase, actuals: Sequence[Array]) -> CaseReplay:
        comparisons = tuple(
            compare_all(
                [self.suite.tensor(output.tensor) for output in case.outputs],
                actuals,
                [read_tolerance(self.suite, case, output) for output in case.outputs],
            )
        )
        wrong = [item for item in comparisons if item.verdict is Verdict.MISMATCH]
        unjudged = [item for item in comparisons if item.verdict is Verdict.SKIPPED]
        if wrong:
            verdict, reason = Verdict.MISMATCH, worst(wrong).reason
        elif any(item.total for item in comparisons):
            verdict, reason = Verdict.PASS, ""
        elif unjudged:
            verdict, reason = Verdict.SKIPPED, unjudged[0].reason
        else:
            verdict, reason = Verdict.SKIPPED, "its outputs have no elements to compare"
        return CaseReplay(
            unit=unit, case=case, verdict=verdict, reason=reason, comparisons=comparisons
        )

    def _build(self) -> None:
        """Prepare all units of the suite for the target, then build those that will be run."""
        together: dict[str, Functions] = {}
        apart: list[dict[str, Functions]] = []
        taken: set[str] = set()
        for unit in self.suite.manifest.units:
            functions = self._renamed(unit)
            names = {gvar.name_hint for gvar in functions}
            if taken.isdisjoint(names):
                together[unit] = functions
                taken |= names
            else:
                # Another unit has a different function of one of the names.
                apart.append({unit: functions})
        for units in (together, *apart):
            self._prepare(units)
        for side in dict.fromkeys(self._sides.values()):
            self._compile([u for u in self._units if self._sides.get(u) is side])

    def _prepare(self, units: Mapping[str, Functions]) -> None:
        """Apply the pipeline to all units at once, as in a migration; to each if that fails."""
        try:
            side = self._side(units.values())
        except LoweringError as error:
            together = str(error)
        else:
            self._sides.update(dict.fromkeys(units, side))
            return
        alone: dict[str, str] = {}
        for unit, functions in units.items():
            try:
                self._sides[unit] = self._side([functions])
            except LoweringError as error:
                alone[unit] = str(error)
        # A pipeline that fails for every unit may only miss the others: the first error counts.
        self._failed.update(dict.fromkeys(alone, together) if len(alone) == len(units) else alone)

    def _side(self, units: Iterable[Functions]) -> tvm.IRModule:
        module = tvm.IRModule({gvar: f for functions in units for gvar, f in functions.items()})
        return prepare_side(module, self._target, self._pipeline)

    def _compile(self, units: Sequence[str]) -> None:
        """Build units of one side into one program, without those that have no kernel."""
        if not units:
            return
        names = [name for (unit, _), name in self._functions.items() if unit in units]
        module = submodule(self._sides[units[0]], names)
        built = self._library.build(module, self._target)
        failed = {unit: built.failed[unit] for unit in units if unit in built.failed}
        if failed:
            self._failed.update(failed)
            self._compile([unit for unit in units if unit not in failed])
            return
        try:
            functions = compile_functions(module, self._target, self._library)
        except Exception as error:  # Whatever TVM raises about what a pipeline returned.
            if len(units) == 1:
                self._failed[units[0]] = f"its bytecode does not compile: {error}"
                return
            for unit in units:
                self._compile([unit])
            return
        kernels = (*functions.shape_functions, *built.files())
        program = _Program(bytecode=functions.bytecode, kernels=kernels)
        self._programs.update(dict.fromkeys(units, program))

    def _renamed(self, unit: str) -> Functions:
        """Return a unit's functions, those that do its cases under names no other unit has."""
        module = self.suite.module(unit)
        cases = {case.function for case in self.suite.manifest.units[unit].cases}
        renamed: Functions = {}
        for gvar, function in module.functions.items():
            if gvar.name_hint in cases:
                name = f"replay_{len(self._functions)}"
                self._functions[unit, gvar.name_hint] = name
                renamed[GlobalVar(name)] = function.with_attr("global_symbol", name)
            else:
                renamed[gvar] = function
        return renamed

    def _split(self, unit: str) -> bool:
        """Give the units of a shared program one program each; return whether it was shared."""
        program = self._programs[unit]
        sharing = [name for name, other in self._programs.items() if other is program]
        if len(sharing) == 1:
            return False
        for name in sharing:
            self._compile([name])
        return True

    def _load(self, unit: str) -> DeviceModule:
        program = self._programs[unit]
        session = self._opened()
        if program not in self._loaded:
            self._loaded[program] = session.load(program.bytecode, program.kernels)
        return self._loaded[program]

    def _opened(self) -> DeviceSession:
        if self._session is None:
            self._session = open_session(
                self._session_spec, self._target, timeout_s=self._timeout_s
            )
        return self._session

    def _end_session(self) -> None:
        session, self._session = self._session, None
        self._loaded.clear()
        self._ran.clear()
        if session is not None:
            session.close()


def kernels_beside(suite: Suite) -> Path | None:
    """Return the folder ``kernels`` next to a suite; None unless it is there and writable."""
    folder = suite.folder.parent / "kernels"
    return folder if folder.is_dir() and os.access(folder, os.W_OK) else None


def _faulted(unit: str, case: SuiteCase, fault: DeviceFault) -> CaseReplay:
    verdict = Verdict.TIMEOUT if isinstance(fault, DeviceTimeout) else Verdict.CRASH
    return CaseReplay(unit=unit, case=case, verdict=verdict, reason=str(fault), text=fault.text)
