"""Do again what was ended from outside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from relax_tapml.errors import DeviceCrash, DeviceUnavailable
from relax_tapml.targets.session.session import DeviceSession

ATTEMPTS = 3
"""How often something is begun in all."""

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


def open_with_retries(start: Callable[[], DeviceSession]) -> DeviceSession:
    """Open a session whose process is ours; again where the process was ended while it started.

    Raises
    ------
    DeviceUnavailable
        It ended itself or did not answer in time; or it was ended in each attempt, and the message
        has all of them.
    """
    told: list[str] = []
    while True:
        try:
            return start()
        except DeviceUnavailable as error:
            told.append(str(error))
            if len(told) == 1 and not error.is_passing:
                raise
            if not error.is_passing or len(told) == ATTEMPTS:
                raise DeviceUnavailable(
                    f"no device session after {len(told)} attempts: {'; '.join(told)}"
                ) from error
            _log.warning("%s. It is tried again", told[-1].partition("\n")[0].rstrip("."))


def retry_if_killed(
    attempt: Callable[[], _Result], is_killed: Callable[[_Result], bool]
) -> _Result:
    """Do something on a device; again, on a fresh one, where the process was killed meanwhile.

    Killing is what others do, the system included where memory is short. Where it happens in every
    attempt it is the doing of what runs there.

    Parameters
    ----------
    attempt
        Does it, and ends the session of a device that failed.
    is_killed
        Of what ``attempt`` returned.
    """
    for _ in range(ATTEMPTS - 1):
        result = attempt()
        if not is_killed(result):
            return result
        _log.warning("the process of the device was killed; what it did is done again")
    return attempt()


def was_killed(fault: Exception) -> bool:
    """Whether a fault of a device is a death that others caused."""
    return isinstance(fault, DeviceCrash) and fault.is_killed
