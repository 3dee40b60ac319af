"""Find the unit that is right at first, and wrong after many calls in one session."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relax_tapml.compare.repeat import is_failure
from relax_tapml.compare.verdict import Verdict
from relax_tapml.replay.unit.replayer import Replayer
from relax_tapml.suite.manifest import SuiteCase, SuiteTensor
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.session.device import Device

# The sessions of a replay and of a model do not begin alike, so the calls that one needs to fail
# are not quite those that the other does.
_MARGIN = 2
# What says nothing of the unit.
_OTHERS = (Verdict.BUILD_ERROR, Verdict.TIMEOUT)


@dataclass(frozen=True, kw_only=True)
class Exhaustion:
    """A unit that fails after some calls in one session, alone: it uses something up.

    Parameters
    ----------
    calls
        How many it took; the calls before were right.
    verdict
        How that one ended.
    reason
        Why, in one sentence.
    """

    calls: int
    verdict: Verdict
    reason: str

    @property
    def text(self) -> str:
        """What is said of the unit."""
        return (
            f"right at first, but wrong after {self.calls - 1} calls in one session, alone: "
            f"{self.reason}. It may use up handles or memory, or count its calls"
        )

    def document(self) -> dict[str, Any]:
        """Return it as it stands in ``result.json``."""
        return {**asdict(self), "verdict": str(self.verdict)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Exhaustion:
        """Read back what ``document`` returned."""
        return cls(
            calls=document["calls"],
            verdict=Verdict(document["verdict"]),
            reason=document["reason"],
        )


def find_exhausting_unit(
    suite: Path,
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
        A folder of ``write_suite``.
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
    opened = open_suite(suite, target)
    units = opened.manifest.units
    known = sorted((unit for unit in calls if unit in units), key=lambda unit: -calls[unit])
    with Replayer(
        opened,
        target=target,
        session="",
        device=device,
        device_pipeline=device_pipeline,
        kernels=kernels,
        units=known,
    ) as replayer:
        for unit in known:
            case = min(units[unit].cases, key=lambda item: _cost(item, opened.manifest.tensors))
            made, ended = replayer.call_often(unit, case, _MARGIN * calls[unit])
            if is_failure(ended.verdict) and ended.verdict not in _OTHERS:
                return unit, Exhaustion(calls=made, verdict=ended.verdict, reason=ended.reason)
    return None


def _cost(case: SuiteCase, tensors: Mapping[str, SuiteTensor]) -> tuple[bool, int]:
    """Return what to choose a case by: a recorded one, with few values."""
    used = [item.tensor for item in case.inputs] + [item.tensor for item in case.outputs]
    return case.is_probe, sum(math.prod(tensors[digest].shape) for digest in used)
