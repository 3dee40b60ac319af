"""What a replay found: ``relax-tapml replay --json``."""

from __future__ import annotations

from dataclasses import dataclass, field

from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.unit_result import ReplayedUnit


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """A replayed suite.

    Parameters
    ----------
    schema
        Of the document.
    units
        In the order of the suite.
    devices
        What each device did, by its name.
    """

    schema: int = 3
    units: tuple[ReplayedUnit, ...]
    devices: dict[str, DeviceResult] = field(default_factory=dict)
