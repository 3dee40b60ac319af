"""Replay a suite on a device and say which units are right there."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relax_tapml.compare.verdict import FAULTS, Verdict, exit_code_of
from relax_tapml.errors import DeviceUnavailable, ExitCode, MachineError, UsageError
from relax_tapml.files.machine import machine_errors
from relax_tapml.partition.device_side import DeviceSide
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.replays.fleet.fleet_replay import FleetReplay
from relax_tapml.replays.unit.power_check import check_power
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.replays.unit.unit_replay import UnitReplay, replay_unit
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.suite.composite_units import caused_by_kernels, failed_units, units_run
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.targets.fleet.tracker import TrackerKey, free_devices
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.session.device import Device

_Lost = DeviceUnavailable | MachineError
# TVM's table of RPC sessions, which a process has one of, has 32 places.
_DEVICES_AT_MOST = 30
# Enough to tell a wrong device from a wrong unit, however few units there are.
_DEVICES_TO_AGREE = 3


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """How a suite ended.

    Parameters
    ----------
    units
        Verdict of every unit, those that could not be carved included.
    details
        The same units, with reasons, cases and comparisons.
    devices
        What each device did, by its name.
    unavailable
        Why no device was left for some units, which are ``inconclusive``; empty if all were judged.
    """

    units: dict[str, Verdict]
    details: dict[str, UnitReplay]
    devices: dict[str, DeviceResult] = field(default_factory=dict)
    unavailable: str = ""

    @property
    def suspects(self) -> dict[str, str]:
        """Devices that are not trusted, and why not."""
        return {name: record.suspect for name, record in self.devices.items() if record.suspect}

    @property
    def unjudged(self) -> list[str]:
        """Units that no device was left for."""
        return [
            unit
            for unit, detail in self.details.items()
            if detail.verdict is Verdict.INCONCLUSIVE and not detail.device
        ]

    @property
    def exit_code(self) -> ExitCode:
        """1 if a unit is wrong; 3 if one is open, or none was compared; otherwise 0."""
        return exit_code_of(self.units.values())


@machine_errors("replaying a suite")
def replay(
    suite: Suite | Path | str,
    *,
    target: Any = "llvm",
    session: str = "process",
    device_pipeline: Any = None,
    side: DeviceSide | None = None,
    kernels: Path | str | None = None,
    timeout_s: float = 60.0,
    units: Sequence[str] | None = None,
    repeat: int = 1,
    device: Device | None = None,
    seed: int | None = None,
    trust: bool = False,
    on_unit: Callable[[int, int], None] = lambda _done, _total: None,
) -> ReplayReport:
    """Run every unit of a suite alone on a device and compare it with what was recorded.

    With a tracker's ``session`` that has more than one free device, units are spread over all of
    them, and what fails on one is run again on another. Units that no device is left for end as
    ``inconclusive``, and so do those whose cases pass and could not have failed (``check_power``).

    Parameters
    ----------
    suite
        A folder of ``write_suite``, or an output folder with one in ``tests``; or such a suite,
        opened for the target.
    target
        A target string, JSON, or ``tvm.target.Target`` to build the units for.
    session
        Where the device is, as for ``open_session``.
    device_pipeline
        A Relax pass, or ``MODULE:ATTR`` that names one, applied before units are scheduled and
        built: to the whole model if the suite lies in the output folder of a run, or else to the
        units. A unit that cannot be judged alone after that is ``skipped``.
    side
        What it made of the model, if that is known.
    kernels
        Folder of cached kernels; by default ``kernels`` next to the suite where there is one, or
        else a temporary folder.
    timeout_s
        How long one call on the device may take.
    units
        Only these units; all by default.
    repeat
        How often each case is run. One that fails now and then makes its unit ``flaky``.
    device
        Shared with others, instead of one of our own for ``session`` and ``timeout_s``; it is left
        open.
    seed
        Of the pattern that memory holds before each call; drawn by default.
    trust
        Whether the suite comes from somebody who may run any code here: its units may then call
        functions that are not known to be harmless.
    on_unit
        Called after each unit, with how many of how many are done; from any thread.

    Raises
    ------
    StoreError
        The suite is damaged, or its units call what is not known to be harmless and ``trust`` is
        false; nothing has run.
    UsageError
        The target, session, pipeline or a unit is not known.
    DeviceUnavailable
        No session could be opened, and nothing is known of any unit, not even that it does not
        build.
    MachineError
        The machine lacks room, memory, descriptors, rights or a compiler, and nothing is known of
        any unit.
    """
    if repeat < 1:
        raise UsageError(f"repeat {repeat}: expected at least 1")
    parsed = parse_target(target, session) if isinstance(target, str) else target
    opened = suite if isinstance(suite, Suite) else open_suite(suite, parsed, trust=trust)
    chosen = _chosen(opened, units)
    with Replayer(
        opened,
        target=parsed,
        session=session,
        device_pipeline=load_pipeline(device_pipeline),
        side=side,
        kernels=None if kernels is None else Path(kernels),
        timeout_s=timeout_s,
        units=chosen,
        device=device,
        seed=seed,
    ) as replayer:
        replayer.build()
        tracker = TrackerKey.parse(session) if device is None else None
        try:
            count = 1 if tracker is None else free_devices(tracker, timeout_s=timeout_s)
            if tracker is None or count < 2:
                details, devices, lost = _on_one(replayer, chosen, repeat, on_unit)
            else:
                fleet = FleetReplay(
                    tracker,
                    parsed,
                    timeout_s=timeout_s,
                    count=min(count, max(len(chosen), _DEVICES_TO_AGREE), _DEVICES_AT_MOST),
                    open_replayer=replayer.on,
                    units=chosen,
                    repeat=repeat,
                    on_unit=on_unit,
                )
                details, devices, lost = fleet.run(), fleet.devices, fleet.unavailable
        except (DeviceUnavailable, MachineError) as error:
            details, devices, lost = {}, {}, error
        if lost is not None:
            # No device is needed to find that a unit does not build.
            unbuilt = [u for u in chosen if u in replayer.unbuilt and u not in details]
            details.update((unit, replay_unit(replayer, unit, repeat)) for unit in unbuilt)
            if not details:
                raise lost
    opened.forget_made()
    verdicts = {unit: detail.verdict for unit, detail in details.items()}
    for unit, reason in caused_by_kernels(
        verdicts, units_run(opened, failed_units(verdicts))
    ).items():
        details[unit] = replace(details[unit], verdict=Verdict.SKIPPED, reason=reason)
    details = {unit: check_power(detail) for unit, detail in details.items()}
    if lost is not None:
        details = {unit: details.get(unit) or _not_judged(unit, lost) for unit in chosen}
    if units is None:
        for unit, reason in opened.manifest.skipped.items():
            details[unit] = UnitReplay(unit=unit, verdict=Verdict.SKIPPED, reason=reason)
    return ReplayReport(
        units={unit: detail.verdict for unit, detail in details.items()},
        details=details,
        devices=devices,
        unavailable="" if lost is None else str(lost),
    )


def _on_one(
    replayer: Replayer,
    units: Sequence[str],
    repeat: int,
    on_unit: Callable[[int, int], None],
) -> tuple[dict[str, UnitReplay], dict[str, DeviceResult], _Lost | None]:
    """Replay units one after another on whatever device their sessions are on.

    Returns how they ended, what each device did, and why none was left for the others.
    """
    details: dict[str, UnitReplay] = {}
    devices: dict[str, DeviceResult] = {}
    name = ""
    cases = replayer.suite.manifest.units
    replayer.expect((unit, case) for unit in units for case in cases[unit].cases)
    for unit in units:
        began, before = time.perf_counter(), replayer.traffic
        try:
            detail = replay_unit(replayer, unit, repeat)
        except (DeviceUnavailable, MachineError) as error:
            if name:
                devices[name] += DeviceResult(lost=f"no session could be opened for {unit}")
            return details, devices, error
        details[unit] = detail
        on_unit(len(details), len(units))
        if detail.device:
            name = detail.device
            devices[name] = devices.get(name, DeviceResult()) + DeviceResult(
                units=1,
                seconds=time.perf_counter() - began,
                faults=int(detail.verdict in FAULTS),
                traffic=replayer.traffic - before,
            )
    return details, devices, None


def _not_judged(unit: str, lost: _Lost) -> UnitReplay:
    return UnitReplay(unit=unit, verdict=Verdict.INCONCLUSIVE, reason=f"not judged: {lost}")


def _chosen(suite: Suite, units: Sequence[str] | None) -> tuple[str, ...]:
    known = suite.manifest.units
    if units is None:
        return tuple(known)
    for unit in units:
        if unit not in known:
            close = difflib.get_close_matches(unit, known) or list(known)[:5]
            raise UsageError(
                f"suite {suite.folder} has no case of unit {unit!r}; it has {', '.join(close)}"
            )
    return tuple(units)
