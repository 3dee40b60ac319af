"""One device for a whole job, with a new session after each fault."""

from __future__ import annotations

from collections.abc import Callable

from relax_tapml.targets.session.session import DeviceSession
from relax_tapml.targets.session.traffic import Traffic


class Device:
    """The one device session of a job, opened when needed and replaced after a fault.

    Parameters
    ----------
    open_session
        Opens a fresh session, or raises ``DeviceUnavailable``.
    name
        For messages, and to distinguish devices.

    Attributes
    ----------
    name
        As given; a device that is leased has the address of its last session instead.
    opened
        How many sessions have been opened so far.
    """

    def __init__(self, open_session: Callable[[], DeviceSession], name: str = "") -> None:
        self.name = name
        self.opened = 0
        self._open = open_session
        self._session: DeviceSession | None = None
        self._past = Traffic()

    @property
    def is_open(self) -> bool:
        """Whether a session is open, so that code may have run in it."""
        return self._session is not None

    @property
    def session(self) -> DeviceSession:
        """The open session. Raises ``DeviceUnavailable`` if none can be opened."""
        if self._session is None:
            self._session = self._open()
            self.opened += 1
        return self._session

    @property
    def traffic(self) -> Traffic:
        """Bytes transferred in all sessions so far."""
        return self._past if self._session is None else self._past + self._session.traffic

    def is_gone(self) -> bool:
        """Whether the server of the last session has ended; False where that cannot be observed."""
        return False

    def release(self) -> None:
        """Free the parameters that the open session has; they are uploaded again when needed."""
        if self._session is not None:
            self._session.release()

    def close(self) -> None:
        """End the session, if any; the next use opens a fresh one."""
        if self._session is not None:
            self._past += self._session.traffic
            self._session.close()
            self._session = None
