"""Try the alternatives for each failing unit, one alone at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from relax_tapml.repair.alternative import Alternative, Kernel, Layer
from relax_tapml.repair.alternatives.registry import ALTERNATIVES
from relax_tapml.repair.blame import blamed
from relax_tapml.repair.call_times import call_times
from relax_tapml.repair.tried import Tried, UnitRepair
from relax_tapml.replays.unit.power_check import check_power
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.replays.unit.unit_replay import UnitReplay, replay_unit
from relax_tapml.results.unit_result import UnitOutcome
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device

BUDGET_S = 300.0
"""Seconds for all failing units of a run."""

# Of two that take about the same time the one that changes less is taken.
_SAME_TIME = 1.1

Kernels = Mapping[str, tirx.PrimFunc]


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
    known: UnitOutcome | None = None,
    budget_s: float = BUDGET_S,
    alternatives: Sequence[Alternative] = ALTERNATIVES,
    on_tried: Callable[[Tried], None] = lambda _tried: None,
) -> UnitRepair:
    """Judge a unit's kernel, then its alternatives if it fails.

    Where the kernel is right as the device's pipeline got it, the fault is the pipeline's, and
    nothing else is tried.

    Parameters
    ----------
    failing
        Where it comes from.
    unit
        Its name.
    known
        How its kernel does alone; None to judge it first.
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
    now: UnitOutcome | UnitReplay = known or _replayed(failing, unit, {})
    if not now.verdict.is_wrong:
        return UnitRepair(unit=unit, verdict=now.verdict, reason=now.reason)
    own = _own_kernels(failing, unit)
    seen = [{name: _scheduled_or_own(kernel.failing, failing) for name, kernel in own.items()}]
    tried: list[Tried] = []
    unmade: dict[str, str] = {}
    right: dict[str, Kernels] = {}
    for alternative in alternatives:
        try:
            changed = _made(alternative, own)
        except MachineError:
            raise
        except Exception as error:  # Whatever a schedule raises of a kernel that it cannot take.
            raise_machine_error(error, f"making {alternative.name} of {unit}")
            unmade[alternative.name] = error_line(error)
            continue
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
            unmade[alternative.name] = f"not tried: {budget_s:.3g} s were over"
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
        if found.verdict is Verdict.PASS:
            right[alternative.name] = changed
            if alternative.layer is Layer.PIPELINE:
                break
    times = _times(failing, unit, right, has_run=now.verdict is Verdict.MISMATCH)
    tried = [replace(one, call_s=times.get(one.name)) for one in tried]
    chosen = _fastest(right, times)
    layer, text = blamed(tried)
    return UnitRepair(
        unit=unit,
        verdict=now.verdict,
        reason=now.reason,
        call_s=times.get(""),
        tried=tuple(tried),
        unmade=unmade,
        chosen=chosen,
        kernels=right.get(chosen, {}),
        layer=layer,
        text=text,
    )


def repair_units(
    failing: Failing,
    units: Mapping[str, UnitOutcome | None],
    *,
    budget_s: float = BUDGET_S,
    on_tried: Callable[[str, Tried], None] = lambda _unit, _tried: None,
) -> list[UnitRepair]:
    """Repair several units.

    Parameters
    ----------
    failing
        Where they come from.
    units
        By name, with how their kernels do alone; None for one that is to be judged first.
    budget_s
        For all of them: each gets an equal share of what is left.
    on_tried
        Called with the unit and each alternative that was judged.

    Returns
    -------
    list
        One for each unit. A repair that is wrong beside the other repairs is not chosen.

    Raises
    ------
    DeviceUnavailable, StoreError, MachineError
        As for ``repair_unit``.
    """
    until = time.monotonic() + budget_s
    found = []
    for position, (unit, known) in enumerate(units.items()):
        share_s = max(0.0, until - time.monotonic()) / (len(units) - position)
        told = partial(on_tried, unit)
        found.append(repair_unit(failing, unit, known=known, budget_s=share_s, on_tried=told))
    return list(right_together(failing, found))


def kernels_by(
    failing: Failing, unit: str, name: str, alternatives: Sequence[Alternative] = ALTERNATIVES
) -> Kernels:
    """Return the kernels that an alternative makes for a unit; none where it makes none."""
    own = _own_kernels(failing, unit)
    return next((_made(one, own) for one in alternatives if one.name == name), {})


def judge_together(failing: Failing, repairs: Sequence[UnitRepair]) -> dict[str, UnitReplay]:
    """Judge the repaired units once more, with all repairs in one program."""
    kernels = {name: one for repair in repairs for name, one in repair.kernels.items()}
    chosen = [repair.unit for repair in repairs if repair.chosen]
    if not chosen:
        return {}
    with _replayer(failing, chosen, kernels) as replayer:
        return {unit: check_power(replay_unit(replayer, unit, 1)) for unit in chosen}


def right_together(failing: Failing, repairs: Sequence[UnitRepair]) -> Iterator[UnitRepair]:
    """Yield the repairs; one that is wrong in one program with the others, without its kernels."""
    together = judge_together(failing, repairs)
    for repair in repairs:
        found = together.get(repair.unit)
        if found is None or not found.verdict.is_wrong:
            yield repair
            continue
        why = (
            f"{repair.text}; but {repair.chosen} is wrong in one program with the other repairs: "
            f"{found.reason}"
        )
        yield replace(repair, chosen="", kernels={}, text=why)


def replaced(module: tvm.IRModule, kernels: Kernels) -> tvm.IRModule:
    """Return a module with other kernels under the names of its own."""
    result = module.clone()
    for name, kernel in kernels.items():
        gvar = module.get_global_var(name)
        symbol = (module[gvar].attrs or {}).get("global_symbol")
        plain = kernel.without_attr("global_symbol")
        named = plain if symbol is None else plain.with_attr("global_symbol", symbol)
        result.update_func(gvar, named)
    return result


def _own_kernels(failing: Failing, unit: str) -> dict[str, Kernel]:
    lowered, hosts = (
        {gvar.name_hint: one for gvar, one in module.functions.items()}
        for module in (failing.lowered, failing.suite.module(unit))
    )
    kernels = {}
    for name in unit_kernels(failing.units)[unit]:
        own, host = failing.units[name], hosts.get(name)
        kernels[name] = Kernel(
            failing=own,
            lowered=lowered.get(name, own),
            target=failing.target,
            host=host if isinstance(host, tirx.PrimFunc) else None,
        )
    return kernels


def _made(alternative: Alternative, own: Mapping[str, Kernel]) -> dict[str, tirx.PrimFunc]:
    made = {name: alternative.make(kernel) for name, kernel in own.items()}
    return {name: one for name, one in made.items() if one is not None}


def _times(
    failing: Failing, unit: str, right: Mapping[str, Kernels], *, has_run: bool
) -> dict[str, float]:
    """Return how long a call takes by each right alternative, and by its own kernel: ``""``."""
    candidates = {"": dict[str, tirx.PrimFunc](), **right} if has_run and right else right
    return call_times(
        failing.suite,
        unit,
        {name: replaced(failing.units, kernels) for name, kernels in candidates.items()},
        target=failing.target,
        device=failing.device,
        kernels=failing.kernels,
    )


def _fastest(right: Mapping[str, Kernels], times: Mapping[str, float]) -> str:
    """Return the fastest alternative, the first of about the same time; empty if there is none."""
    if any(name not in times for name in right):
        return next(iter(right), "")
    least = min((times[name] for name in right), default=0.0)
    return next((name for name in right if times[name] <= _SAME_TIME * least), "")


def _replayer(failing: Failing, units: Sequence[str], kernels: Kernels) -> Replayer:
    return Replayer(
        failing.suite,
        target=failing.target,
        session="",
        side=DeviceSide(units=replaced(failing.units, kernels)),
        kernels=failing.kernels,
        units=units,
        device=failing.device,
    )


def _replayed(failing: Failing, unit: str, kernels: Kernels) -> UnitReplay:
    with _replayer(failing, [unit], kernels) as replayer:
        found = check_power(replay_unit(replayer, unit, 1))
    if found.verdict.is_wrong:
        failing.device.close()
    return found


def _scheduled_or_own(kernel: tirx.PrimFunc, failing: Failing) -> tirx.PrimFunc:
    """Return a kernel as it is compiled, or as it is where it has no schedule."""
    try:
        return scheduled(kernel, failing.target)
    except LoweringError:
        return kernel


def _are_same(one: Kernels, other: Kernels) -> bool:
    return all(
        is_same(kernel.without_attr("global_symbol"), other[name].without_attr("global_symbol"))
        for name, kernel in one.items()
    )
