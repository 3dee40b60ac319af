"""Find the unit that is right at first, and wrong after many calls in one session."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relax_tapml.compare.repeat import is_failure
from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.results.step_result import Exhaustion
from relax_tapml.suite.manifest import SuiteCase, SuiteTensor
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device

# The sessions of a replay and of a model do not begin alike, so the calls that one needs to fail
# are not quite those that the other does.
_MARGIN = 2
# What is not about how often the unit was called.
_OTHERS = (Verdict.BUILD_ERROR, Verdict.TIMEOUT)


def find_exhausting_unit(
    suite: Suite,
    calls: Mapping[str, int],
    *,
    target: Any,
    device: Device,
    device_pipeline: Any,
    kernels: Path,
) -> tuple[str, Exhaustion] | None:
    """Call unit after unit alone, each in a session of its own, twice as often as given.

    A right unit is right however often it is called, so the first that fails is guilty, and what
    else was on the device need not be looked at.

    Parameters
    ----------
    suite
        Opened for the target.
    calls
        Unit to how often it was called in a session that failed. Units without a case, which
        cannot be called alone, are left out.
    target, device, device_pipeline, kernels
        As for ``replay``.

    Returns
    -------
    tuple or None
        The unit and how it fails; None if all are right to the end.

    Raises
    ------
    DeviceUnavailable
        No session could be opened.
    """
    units = suite.manifest.units
    known = sorted((unit for unit in calls if unit in units), key=lambda unit: -calls[unit])
    with Replayer(
        suite,
        target=target,
        session="",
        device=device,
        device_pipeline=device_pipeline,
        kernels=kernels,
        units=known,
    ) as replayer:
        for unit in known:
            case = min(units[unit].cases, key=lambda item: _cost(item, suite.manifest.tensors))
            made, ended = replayer.call_often(unit, case, _MARGIN * calls[unit])
            if is_failure(ended.verdict) and ended.verdict not in _OTHERS:
                return unit, Exhaustion(calls=made, verdict=ended.verdict, reason=ended.reason)
    return None


def _cost(case: SuiteCase, tensors: Mapping[str, SuiteTensor]) -> tuple[bool, int]:
    """Return what to choose a case by: a recorded one, with few values."""
    used = [item.tensor for item in case.inputs] + [item.tensor for item in case.outputs]
    return case.is_probe, sum(math.prod(tensors[digest].shape) for digest in used)
