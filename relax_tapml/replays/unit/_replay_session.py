"""The device session that units are replayed in, and which of them ran in it."""

from __future__ import annotations

from relax_tapml.replays.unit.unit_programs import Program
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.session import DeviceModule, DeviceSession

_EARLIER = "what ran before this replay"


class ReplaySession:
    """Remember what the open session of a device has loaded and which units have run in it.

    Parameters
    ----------
    device
        May be shared: it may have a session already, and its other users may replace that.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._session: DeviceSession | None = None
        self._loaded: dict[Program, DeviceModule] = {}
        self._ran: list[str] = []

    def open(self) -> DeviceSession:
        """Return the open session. Raises ``DeviceUnavailable`` if none can be opened."""
        is_used = self._device.is_open
        session = self._device.session
        if session is not self._session:
            self._session = session
            self._loaded.clear()
            self._ran = [_EARLIER] if is_used else []
        return session

    def load(self, program: Program) -> DeviceModule:
        """Return a program as the open session has it, loaded on first use."""
        session = self.open()
        if program not in self._loaded:
            self._loaded[program] = session.load(program.bytecode, program.kernels)
        return self._loaded[program]

    def note_run(self, unit: str) -> None:
        """Remember that a unit runs in the open session from now on."""
        self._ran.append(unit)

    def context(self, unit: str) -> tuple[str, ...]:
        """Return what else has run in the session, in order, each once.

        Nothing where that cannot matter, because a fresh session would not undo it.
        """
        if self._session is None or not self._session.is_isolated:
            return ()
        return tuple(dict.fromkeys(other for other in self._ran if other != unit))

    def renew(self) -> None:
        """End the session; the next use gets a fresh one, in which nothing has run."""
        self._device.close()
        self._session = None
        self._loaded.clear()
        self._ran.clear()
