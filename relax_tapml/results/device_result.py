"""What one device did in a replay."""

from __future__ import annotations

from dataclasses import dataclass, field

from relax_tapml.results.json_codec import Count, Seconds
from relax_tapml.targets.session.traffic import Traffic


@dataclass(frozen=True, kw_only=True)
class DeviceResult:
    """What one device did in a replay.

    Parameters
    ----------
    units
        How many units it was given; one that was looked at again counts each time.
    seconds
        How long it worked on them.
    faults
        How many of them ended with a crash or a timeout there.
    traffic
        Bytes of tensors that crossed for them.
    suspect
        Why its results are not trusted, a sentence for people; empty where they are.
    lost
        Why it did no more work before the end; empty where it did.
    """

    units: Count = 0
    seconds: Seconds = 0.0
    faults: Count = 0
    traffic: Traffic = field(default_factory=Traffic)
    suspect: str = ""
    lost: str = ""

    def __add__(self, other: DeviceResult) -> DeviceResult:
        """Return what was done in both; the first reason of each kind stays."""
        return DeviceResult(
            units=self.units + other.units,
            seconds=self.seconds + other.seconds,
            faults=self.faults + other.faults,
            traffic=self.traffic + other.traffic,
            suspect=self.suspect or other.suspect,
            lost=self.lost or other.lost,
        )
