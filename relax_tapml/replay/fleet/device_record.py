"""What one device did in a replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from relax_tapml.targets.session.traffic import Traffic

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class DeviceRecord:
    """What one device did in a replay.

    Parameters
    ----------
    units
        How many units it was given; one that was looked at again counts each time.
    seconds
        How long it was at them.
    faults
        How many of them ended with a crash or a timeout there.
    traffic
        What crossed for them.
    suspect
        Why its answers are not believed, a sentence for people; empty where they are.
    lost
        Why it did no more work before the end; empty where it did.
    """

    units: int = 0
    seconds: float = 0.0
    faults: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    suspect: str = ""
    lost: str = ""

    def __add__(self, other: DeviceRecord) -> DeviceRecord:
        """Return what was done in both; the first reason of each kind stays."""
        return DeviceRecord(
            units=self.units + other.units,
            seconds=self.seconds + other.seconds,
            faults=self.faults + other.faults,
            traffic=self.traffic + other.traffic,
            suspect=self.suspect or other.suspect,
            lost=self.lost or other.lost,
        )


def suspicion(units: Iterable[str], others: Iterable[str]) -> str:
    """Say that a device is wrong about some units, of which other devices say that they pass."""
    names = list(units)
    more = "" if len(names) <= _SHOWN else f" and {len(names) - _SHOWN} more"
    told = ", ".join(names[:_SHOWN]) + more
    return f"gave wrong answers for {told}, right on {', '.join(others)}"
