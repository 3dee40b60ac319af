"""How often units have been called in the session that is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from relax_tapml.targets.session.device import Device


class SessionCalls:
    """Counts the calls of units in a device's session; a fresh session begins at none.

    Parameters
    ----------
    device
        Whose sessions.

    Attributes
    ----------
    is_renewing
        Whether each run gets a session of its own, because one that has done much is of no use.
    failed
        The calls of the session that failed last.
    """

    def __init__(self, device: Device) -> None:
        self.is_renewing = False
        self.failed: Counter[str] = Counter()
        self._device = device
        self._session = 0
        self._calls: Counter[str] = Counter()

    def so_far(self) -> Counter[str]:
        """Return the calls of each unit in the open session; none if none is open."""
        is_same = self._device.is_open and self._device.opened == self._session
        return Counter(self._calls) if is_same else Counter()

    def add(self, calls: Mapping[str, int]) -> None:
        """Take in calls that were made in the open session."""
        self._calls = self.so_far() + Counter(calls)
        self._session = self._device.opened
