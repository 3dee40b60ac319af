"""How long a call of a unit takes with each of several kernels."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import DeviceError, MachineError, TapmlError
from relax_tapml.partition.device_side import DeviceSide
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.replays.unit.replayer import suite_programs
from relax_tapml.replays.unit.timed_call import calls_of_round, largest_case, timed_call
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device

_ROUNDS = 5
_MOST_S = 2.0
_log = logging.getLogger(__name__)


def call_times(
    suite: Suite,
    unit: str,
    sides: Mapping[str, tvm.IRModule],
    *,
    target: Any,
    device: Device,
    kernels: Path,
) -> dict[str, float]:
    """Time the largest recorded case of a unit by each of several modules, in turns.

    Parameters
    ----------
    suite, unit
        What is called.
    sides
        Modules of the target's side, by the name of the result.
    target, device
        Where it runs.
    kernels
        Folder of cached kernels.

    Returns
    -------
    dict
        Seconds of a call by the device's clock, the median of several rounds. What cannot be timed
        is not in it, as on a device without a clock; the log says why.
    """
    if not any(not case.is_probe for case in suite.unit(unit).cases):
        return {}
    case = largest_case(suite, suite.unit(unit).cases)
    library = KernelLibrary(kernels)
    left = dict(sides)
    while left:
        name = ""
        try:
            clocks = {}
            for name, side in left.items():
                programs = suite_programs(
                    suite,
                    target=target,
                    device_pipeline=None,
                    library=library,
                    side=DeviceSide(units=side),
                    units=[unit],
                )
                clock = timed_call(
                    programs.implementation(unit), suite, case,
                    target=target, library=library, device=device,
                )  # fmt: skip
                clocks[name] = (clock, calls_of_round(clock))
            rounds: dict[str, list[float]] = {name: [] for name in clocks}
            until = time.monotonic() + _MOST_S
            while len(next(iter(rounds.values()))) < _ROUNDS:
                for name, (clock, calls) in clocks.items():
                    rounds[name].append(clock(calls))
                if time.monotonic() > until:
                    break
        except MachineError:
            raise
        except TapmlError as error:
            _log.debug("a call of %s (%s) was not timed: %s", unit, name, error)
            if not isinstance(error, DeviceError):  # The session ended, with what was loaded.
                device.close()
            del left[name]
            continue
        return {name: statistics.median(times) for name, times in rounds.items()}
    return {}
