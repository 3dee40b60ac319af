"""Try the alternatives for each failing unit, one alone at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError, MachineError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.partition.device_side import DeviceSide
from relax_tapml.partition.kernel_library import unit_kernels
from relax_tapml.passes.submodule import is_same
from relax_tapml.printable import error_line
from relax_tapml.repair._scheduled import scheduled
from relax_tapml.repair.alternative import Alternative, Kernel
from relax_tapml.repair.alternatives.registry import ALTERNATIVES
from relax_tapml.repair.blame import blamed
from relax_tapml.repair.tried import Tried, UnitRepair
from relax_tapml.replays.unit.power_check import check_power
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.replays.unit.unit_replay import UnitReplay, replay_unit
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device

BUDGET_S = 30.0
"""Seconds for the alternatives of one unit. The one that is running then is ended by its result."""


@dataclass(frozen=True, kw_only=True)
class Failing:
    """Where the failing units come from.

    Parameters
    ----------
    suite
        Opened for the target.
    units
        The module of the target's side, after its pipeline.
    lowered
        The same before it.
    target
        The ``tvm.target.Target``.
    device
        Where they run; its sessions limit how long a call may take.
    kernels
        Folder of cached kernels.
    """

    suite: Suite
    units: tvm.IRModule
    lowered: tvm.IRModule
    target: Any
    device: Device
    kernels: Path


def repair_unit(
    failing: Failing,
    unit: str,
    *,
    budget_s: float = BUDGET_S,
    alternatives: Sequence[Alternative] = ALTERNATIVES,
    on_tried: Callable[[Tried], None] = lambda _tried: None,
) -> UnitRepair:
    """Judge a unit's kernel, then its alternatives if it fails.

    Parameters
    ----------
    failing
        Where it comes from.
    unit
        Its name.
    budget_s
        No alternative is begun later than that.
    alternatives
        In the order in which they are tried.
    on_tried
        Called after each.

    Raises
    ------
    DeviceUnavailable
        No session could be opened.
    StoreError
        A file of the suite cannot be read.
    MachineError
        The machine lacks something, which is not about the unit.
    """
    began = time.monotonic()
    now = _replayed(failing, unit, {})
    if not now.verdict.is_wrong:
        return UnitRepair(unit=unit, verdict=now.verdict, reason=now.reason, tried=())
    own = {name: _kernel(failing, name) for name in unit_kernels(failing.units)[unit]}
    seen = [{name: _scheduled_or_own(kernel.failing, failing) for name, kernel in own.items()}]
    tried: list[Tried] = []
    unmade: dict[str, str] = {}
    chosen, kernels = "", dict[str, tirx.PrimFunc]()
    for alternative in alternatives:
        try:
            made = {name: alternative.make(kernel) for name, kernel in own.items()}
        except MachineError:
            raise
        except Exception as error:  # Whatever a schedule raises of a kernel that it cannot take.
            raise_machine_error(error, f"making {alternative.name} of {unit}")
            unmade[alternative.name] = error_line(error)
            continue
        changed = {name: one for name, one in made.items() if one is not None}
        if not changed:
            continue
        built_of = {
            name: _scheduled_or_own(changed.get(name, kernel.failing), failing)
            for name, kernel in own.items()
        }
        if any(_are_same(built_of, before) for before in seen):
            continue
        seen.append(built_of)
        if time.monotonic() - began > budget_s:
            unmade[alternative.name] = f"not tried: {budget_s:g} s were over"
            continue
        started = time.monotonic()
        found = _replayed(failing, unit, changed)
        tried.append(
            Tried(
                name=alternative.name,
                layer=alternative.layer,
                text=alternative.text,
                verdict=found.verdict,
                reason=found.reason,
                seconds=time.monotonic() - started,
            )
        )
        on_tried(tried[-1])
        if found.verdict is Verdict.PASS and not chosen:
            chosen, kernels = alternative.name, changed
    layer, text = blamed(tried)
    return UnitRepair(
        unit=unit,
        verdict=now.verdict,
        reason=now.reason,
        tried=tuple(tried),
        unmade=unmade,
        chosen=chosen,
        kernels=kernels,
        layer=layer,
        text=text,
    )


def judge_together(failing: Failing, repairs: Sequence[UnitRepair]) -> dict[str, UnitReplay]:
    """Judge the repaired units once more, with all repairs in one program."""
    kernels = {name: one for repair in repairs for name, one in repair.kernels.items()}
    chosen = [repair.unit for repair in repairs if repair.chosen]
    if not chosen:
        return {}
    with _replayer(failing, chosen, kernels) as replayer:
        return {unit: check_power(replay_unit(replayer, unit, 1)) for unit in chosen}


def replaced(module: tvm.IRModule, kernels: Mapping[str, tirx.PrimFunc]) -> tvm.IRModule:
    """Return a module with other kernels under the names of its own."""
    result = module.clone()
    for name, kernel in kernels.items():
        gvar = module.get_global_var(name)
        symbol = (module[gvar].attrs or {}).get("global_symbol")
        plain = kernel.without_attr("global_symbol")
        named = plain if symbol is None else plain.with_attr("global_symbol", symbol)
        result.update_func(gvar, named)
    return result


def _replayer(
    failing: Failing, units: Sequence[str], kernels: Mapping[str, tirx.PrimFunc]
) -> Replayer:
    return Replayer(
        failing.suite,
        target=failing.target,
        session="",
        side=DeviceSide(units=replaced(failing.units, kernels)),
        kernels=failing.kernels,
        units=units,
        device=failing.device,
    )


def _replayed(failing: Failing, unit: str, kernels: Mapping[str, tirx.PrimFunc]) -> UnitReplay:
    with _replayer(failing, [unit], kernels) as replayer:
        found = check_power(replay_unit(replayer, unit, 1))
    if found.verdict.is_wrong:
        failing.device.close()
    return found


def _kernel(failing: Failing, name: str) -> Kernel:
    own = failing.units[name]
    names = {gvar.name_hint for gvar in failing.lowered.functions}
    before = failing.lowered[name] if name in names else own
    return Kernel(failing=own, lowered=before, target=failing.target)


def _scheduled_or_own(kernel: tirx.PrimFunc, failing: Failing) -> tirx.PrimFunc:
    """Return a kernel as it is compiled, or as it is where it has no schedule."""
    try:
        return scheduled(kernel, failing.target)
    except LoweringError:
        return kernel


def _are_same(one: Mapping[str, tirx.PrimFunc], other: Mapping[str, tirx.PrimFunc]) -> bool:
    return all(
        is_same(kernel.without_attr("global_symbol"), other[name].without_attr("global_symbol"))
        for name, kernel in one.items()
    )
