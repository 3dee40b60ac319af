"""The programs that do a suite's cases on one target."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.ir import GlobalVar

from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.device_side import device_side
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes.operator_call import CASE_KERNEL_ATTR, is_caller
from relax_tapml.passes.site import Site
from relax_tapml.passes.submodule import is_same, retarget_calls, submodule
from relax_tapml.replays.unit._case_module import case_module
from relax_tapml.replays.unit._offset_inputs import with_offset_inputs
from relax_tapml.replays.unit._output_guard import guarded_call
from relax_tapml.replays.unit._poison import PoisonedBlock
from relax_tapml.replays.unit._workspace import filler, with_all, workspace_pages
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.platforms.registry import platform_of

Functions = dict[GlobalVar, tvm.ir.BaseFunc]

FORGET = "relax_tapml_forget"
"""A function of every program that does nothing. A VM keeps what it has returned last."""

_NO_WAITING = (
    "bringing its KV cache into a recorded state needs functions of TVM's runtime that wait for "
    "the device, which it cannot do there; the kernels that it runs are judged"
)

# What fills workspaces is named so; no unit is.
_FILLER = "relax_tapml_filler_"


@dataclass(frozen=True, kw_only=True)
class Program:
    """Bytecode that calls some units, and the shared objects it needs."""

    bytecode: bytes
    kernels: tuple[Path, ...]


class UnitPrograms:
    """The units of a suite, built for a target; together where they can be.

    A unit whose kernel does not build does not keep the others from being built. Once they are
    built, threads may share them.

    Parameters
    ----------
    suite
        From ``open_suite``.
    target
        The ``tvm.target.Target`` to build for.
    pipeline
        A Relax pass applied to the units before they are scheduled and built, or None.
    library
        Where their kernels are kept.
    units
        The units that will be run.
    side
        Where the units come from: the model's whole module as it was prepared for the target, to
        which ``pipeline`` has been applied. None to apply it to the functions of the suite.
    unjudged
        Unit to the reason why it cannot be judged alone, although it is in ``side``.

    Attributes
    ----------
    failed
        Unit to the reason why it cannot be run.
    unjudged
        Those of them that are not wrong because of it.
    """

    def __init__(
        self,
        suite: Suite,
        *,
        target: Any,
        pipeline: Any,
        library: KernelLibrary,
        units: Sequence[str],
        side: tvm.IRModule | None = None,
        unjudged: Mapping[str, str] | None = None,
    ) -> None:
        lacking = {unit: why for unit in suite.manifest.units if (why := suite.lacking(unit))}
        if platform_of(target).lacks_waiting(target):
            states = (unit for unit in suite.manifest.units if _has_case_kernel(suite.module(unit)))
            lacking.update(dict.fromkeys(states, _NO_WAITING))
        self.unjudged = {**lacking, **(unjudged or {})}
        self.failed: dict[str, str] = {}
        self._suite = suite
        self._target = target
        self._pipeline = pipeline
        self._whole = side
        self._library = library
        self._units = tuple(units)
        self._functions: dict[tuple[str, str], str] = {}
        self._sides: dict[str, tvm.IRModule] = {}
        self._programs: dict[str, Program] = {}
        self._blocks: dict[str, tuple[PoisonedBlock, ...]] = {}
        self._has_fillers = True
        self._is_built = False
        self._is_prepared = False
        # Held while programs that are in use are replaced.
        self._splitting = threading.Lock()

    def build(self) -> None:
        """Prepare all units of the suite for the target, then build those that will be run.

        Nothing is done where that has been done.
        """
        if self._is_built:
            return
        self._is_built = True
        self._prepare_all()
        for side in dict.fromkeys(self._sides.values()):
            self._compile([u for u in self._units if self._sides.get(u) is side])

    def implementation(self, unit: str) -> tvm.IRModule:
        """Return the functions that do a unit's cases, under the names that the suite has for them.

        Kernels are as the pipeline returned them, before they are scheduled.

        Raises
        ------
        LoweringError
            There is none, since the pipeline cannot be applied or the unit cannot be judged
            alone.
        """
        self._prepare_all()
        if unit not in self._sides:
            raise LoweringError(f"unit {unit}: {self.failed[unit]}")
        names = {new: old for (of, old), new in self._functions.items() if of == unit}
        module = submodule(self._sides[unit], names)
        functions: Functions = {}
        for gvar, function in module.functions.items():
            name = names.get(gvar.name_hint)
            if name is not None:
                function = function.with_attr("global_symbol", name)
            functions[gvar if name is None else GlobalVar(name)] = function
        return tvm.IRModule(functions, attrs=module.attrs, global_infos=module.global_infos)

    def _prepare_all(self) -> None:
        if self._is_prepared:
            return
        self._is_prepared = True
        together: dict[str, Functions] = {}
        apart: list[dict[str, Functions]] = []
        taken: dict[str, tuple[GlobalVar, tvm.ir.BaseFunc]] = {}
        for unit in self._judged(self._suite.manifest.units):
            functions = self._renamed(unit)
            shared = _sharing(functions, taken)
            if shared is None:
                apart.append({unit: functions})
            else:
                together[unit] = shared
                taken.update({gvar.name_hint: (gvar, f) for gvar, f in shared.items()})
        for units in (together, *apart):
            self._prepare(units)

    def program(self, unit: str) -> Program:
        """Return the program that does the cases of a unit, which has not ``failed``."""
        return self._programs[unit]

    def function(self, unit: str, name: str) -> str:
        """Return what a program calls the function ``name`` of a unit's cases."""
        return self._functions[unit, name]

    def blocks(self, unit: str, name: str) -> tuple[PoisonedBlock, ...]:
        """Return the poisoned memory of that function; none where it has none.

        It takes a pattern more for each size of ``pattern_sizes``, and returns a guard for each.
        """
        return self._blocks.get(self._functions[unit, name], ())

    def split(self, unit: str, program: Program) -> bool:
        """Give the units of a shared program one program each.

        Parameters
        ----------
        unit
            One of them.
        program
            The shared one.

        Returns
        -------
        bool
            Whether the unit has another program now, or none; false where it shared with none.
        """
        with self._splitting:
            if self._programs[unit] is not program or unit in self.failed:
                return True
            sharing = [name for name, other in self._programs.items() if other is program]
            if len(sharing) == 1:
                return False
            for name in sharing:
                self._compile([name])
            return True

    def _prepare(self, units: Mapping[str, Functions]) -> None:
        """Apply the pipeline to all units at once, as in a migration; to each if that fails."""
        try:
            side = self._side(units.values())
        except LoweringError as error:
            together = str(error)
        else:
            self._sides.update(dict.fromkeys(self._judged(units), side))
            return
        alone: dict[str, str] = {}
        for unit, functions in units.items():
            try:
                side = self._side([functions])
            except LoweringError as error:
                alone[unit] = str(error)
            else:
                self._sides.update(dict.fromkeys(self._judged([unit]), side))
        if len(alone) == len(units):
            self._check_pipeline(together)
        # A pipeline that fails for every unit may only miss the others: the first error counts.
        self.failed.update(dict.fromkeys(alone, together) if len(alone) == len(units) else alone)

    def _judged(self, units: Iterable[str]) -> list[str]:
        """Return the units that can be judged alone; the others have failed with the reason."""
        judged = []
        for unit in units:
            why = next((self.unjudged[n] for n in self._parts(unit) if n in self.unjudged), None)
            if why is None:
                judged.append(unit)
            else:
                self.unjudged[unit] = self.failed[unit] = why
        return judged

    def _parts(self, unit: str) -> list[str]:
        """Return a unit and the other units whose kernels it runs."""
        return [unit, *(gvar.name_hint for gvar in self._suite.module(unit).functions)]

    def _check_pipeline(self, reason: str) -> None:
        """Refuse a pipeline that needs functions that only the model has.

        Raises
        ------
        LoweringError
            It failed, and its message names one of them.
        """
        manifest = self._suite.manifest
        sites = (case.site for unit in manifest.units.values() for case in unit.cases)
        callers = {Site.parse(site).function for site in sites}
        named = [name for name in sorted(callers) if re.search(rf"\b{re.escape(name)}\b", reason)]
        if self._pipeline is not None and self._whole is None and named:
            raise LoweringError(
                f"{reason}. The pipeline reads {named[0]}, a function of the model, which a suite "
                "alone does not have: replay the output folder of the run, which keeps the model's "
                "functions in lowered.json"
            )

    def _side(self, units: Iterable[Functions]) -> tvm.IRModule:
        module = tvm.IRModule({gvar: f for functions in units for gvar, f in functions.items()})
        if self._whole is None:
            return self._own_side(module)
        # What makes an object for a case, such as a cache, and fills it, is the suite's own.
        names = {
            gvar.name_hint
            for gvar, one in module.functions.items()
            if not (is_caller(one) or _is_of_case(one))
        }
        lost = names.difference(gvar.name_hint for gvar in self._whole.functions)
        if lost:
            raise LoweringError(
                f"the module that was prepared for the target has no {', '.join(sorted(lost))}"
            )
        cases = {gvar.name_hint for gvar in module.functions} & set(self._functions.values())
        return case_module(lower_for_target(module, self._target), names, self._whole, cases)

    def _own_side(self, module: tvm.IRModule) -> tvm.IRModule:
        """Apply the pipeline to functions of the suite, of which those that do cases stay."""
        side = device_side(module, self._target, self._pipeline)
        self.unjudged.update(side.unjudged)
        return side.units

    def _compile(self, units: Sequence[str]) -> None:
        """Build units of one side into one program, without those that have no kernel."""
        if not units:
            return
        names = [name for (unit, _), name in self._functions.items() if unit in units]
        module = self._guarded(submodule(self._sides[units[0]], names), names)
        built = self._library.build(module, self._target)
        if any(name.startswith(_FILLER) for name in built.failed):
            # A unit works without a filler.
            self._has_fillers = False
            self._compile(units)
            return
        failed = {unit: reason for unit in units if (reason := self._failure(unit, built))}
        if failed:
            self.failed.update(failed)
            self._compile([unit for unit in units if unit not in failed])
            return
        try:
            functions = compile_functions(module, self._target, self._library)
        except Exception as error:  # Whatever TVM raises about what a pipeline returned.
            raise_machine_error(error, "compiling the bytecode of a suite")
            if len(units) == 1:
                self.failed[units[0]] = f"its bytecode does not compile: {error}"
                return
            for unit in units:
                self._compile([unit])
            return
        kernels = (*functions.shape_functions, *built.files())
        program = Program(bytecode=functions.bytecode, kernels=kernels)
        self._programs.update(dict.fromkeys(units, program))

    def _failure(self, unit: str, built: KernelSet) -> str | None:
        """Return why a unit has no kernel, or lacks one of those of other units that it runs."""
        if not built.failed:
            return None
        names = self._parts(unit)
        return next((built.failed[name] for name in names if name in built.failed), None)

    def _guarded(self, module: tvm.IRModule, names: Sequence[str]) -> tvm.IRModule:
        """Poison the memory of the results of the functions where that can be done."""
        module = module.clone()
        module.update_func(GlobalVar(FORGET), _forget())
        alignment = platform_of(self._target).copy_alignment
        for name in names:
            function = with_offset_inputs(module, name, alignment=alignment)
            if function is not None:
                module.update_func(module.get_global_var(name), function)
        fillers = self._fillers(module, names)
        for name in names:
            guarded = guarded_call(module, name, alignment=alignment, filler=fillers.get(name))
            if guarded is not None:
                gvar = GlobalVar(name)
                relax.expr._update_type(gvar, guarded.function.ty)
                del module[name]
                module.update_func(gvar, guarded.function)
                self._blocks[name] = guarded.blocks
        return module

    def _fillers(self, module: tvm.IRModule, names: Sequence[str]) -> dict[str, GlobalVar]:
        """Add to a module what fills the workspace of the kernels of some functions on a CPU."""
        is_cpu = self._target.get_target_device_type() == tvm.cpu().dlpack_device_type()
        if not is_cpu or not self._has_fillers:
            return {}
        pages = {name: workspace_pages(module, name) for name in names}
        added: dict[tuple[int, ...], GlobalVar] = {}
        fillers: dict[str, GlobalVar] = {}
        for name in names:
            if not pages[name]:
                continue
            sizes = tuple(with_all(pages[name], list(pages.values())))
            if sizes not in added:
                function = filler(sizes)
                added[sizes] = GlobalVar(f"{_FILLER}{len(added)}")
                relax.expr._update_type(added[sizes], function.ty)
                module.update_func(added[sizes], function)
            fillers[name] = added[sizes]
        return fillers

    def _renamed(self, unit: str) -> Functions:
        """Return a unit's functions, those that do its cases under names no other unit has."""
        module = self._suite.target_module(unit)
        cases = {case.function for case in self._suite.manifest.units[unit].cases}
        renamed: Functions = {}
        for gvar, function in module.functions.items():
            if gvar.name_hint in cases:
                name = f"replay_{len(self._functions)}"
                self._functions[unit, gvar.name_hint] = name
                renamed[GlobalVar(name)] = function.with_attr("global_symbol", name)
            else:
                renamed[gvar] = function
        return renamed


def _forget() -> relax.Function:
    builder = relax.BlockBuilder()
    with builder.function(FORGET, []):
        builder.emit_func_output(relax.Tuple([]))
    return builder.get()[FORGET]


def _is_of_case(function: tvm.ir.BaseFunc) -> bool:
    return CASE_KERNEL_ATTR in (function.attrs or {})


def _has_case_kernel(module: tvm.IRModule) -> bool:
    return any(_is_of_case(function) for function in module.functions.values())


def _sharing(
    functions: Functions, taken: Mapping[str, tuple[GlobalVar, tvm.ir.BaseFunc]]
) -> Functions | None:
    """Return functions under the GlobalVars that other units have for the same ones.

    None where another unit has a different function of one of the names.
    """
    common = {g.name_hint: taken[g.name_hint][0] for g in functions if g.name_hint in taken}
    if not common:
        return functions
    shared = {common.get(g.name_hint, g): retarget_calls(f, common) for g, f in functions.items()}
    pairs = ((f, taken[g.name_hint][1]) for g, f in shared.items() if g.name_hint in taken)
    return shared if all(is_same(a, b) for a, b in pairs) else None
