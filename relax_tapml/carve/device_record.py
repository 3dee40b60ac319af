"""What one device did in a replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    suspect
        Why its answers are not believed, a sentence for people; empty where they are.
    lost
        Why it did no more work before the end; empty where it did.
    """

    units: int = 0
    seconds: float = 0.0
    faults: int = 0
    suspect: str = ""
    lost: str = ""


def suspicion(units: Iterable[str], others: Iterable[str]) -> str:
    """Say that a device is wrong about some units, of which other devices say that they pass."""
    names = list(units)
    more = "" if len(names) <= _SHOWN else f" and {len(names) - _SHOWN} more"
    told = ", ".join(names[:_SHOWN]) + more
    return f"gave wrong answers for {told}, right on {', '.join(others)}"
