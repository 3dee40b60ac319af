"""Judge a failing unit on another device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm

from relax_tapml.partition.device_side import DeviceSide
from relax_tapml.repair.blame import Elsewhere
from relax_tapml.replays.unit.power_check import check_power
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.replays.unit.unit_replay import replay_unit
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device


def judge_elsewhere(
    suite: Suite,
    unit: str,
    units: tvm.IRModule,
    target: Any,
    device: Device,
    kernels: Path,
    *,
    is_same_code: bool = False,
) -> Elsewhere:
    """Judge a unit on another device, for ``blamed``.

    Parameters
    ----------
    suite, unit
        Its cases.
    units
        The module with its kernels: as they were lowered, or those that are wrong for the same
        code on a device of the same target.
    target, device
        The other device.
    kernels
        Folder of cached kernels.
    is_same_code
        Whether target and kernels are those of the failing unit.
    """
    with Replayer(
        suite,
        target=target,
        session="",
        side=DeviceSide(units=units),
        kernels=kernels,
        units=[unit],
        device=device,
    ) as replayer:
        found = check_power(replay_unit(replayer, unit, 1))
    text = f"on {device.name}" if is_same_code else f"on {target.kind.name}"
    return Elsewhere(text=text, verdict=found.verdict, is_same_code=is_same_code)
