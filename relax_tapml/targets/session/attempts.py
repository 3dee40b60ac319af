"""Repeat what failed because its process was killed from outside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from relax_tapml.errors import DeviceCrash, DeviceUnavailable
from relax_tapml.printable import message_line
from relax_tapml.targets.session.session import DeviceSession

ATTEMPTS = 3
"""How often something is tried in all."""

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


def open_with_retries(start: Callable[[], DeviceSession]) -> DeviceSession:
    """Open a session in a local process; again where the process was killed while it started.

    Raises
    ------
    DeviceUnavailable
        The process exited by itself or did not answer in time; or it was killed in each attempt,
        and the message has all of them.
    """
    failures: list[str] = []
    while True:
        try:
            return start()
        except DeviceUnavailable as error:
            failures.append(str(error))
            if len(failures) == 1 and not error.is_passing:
                raise
            if not error.is_passing or len(failures) == ATTEMPTS:
                raise DeviceUnavailable(
                    f"no device session after {len(failures)} attempts: {'; '.join(failures)}"
                ) from error
            _log.warning("%s. Trying again", message_line(error).rstrip("."))


def retry_if_killed(
    attempt: Callable[[], _Result], is_killed: Callable[[_Result], bool]
) -> _Result:
    """Do something on a device; again, in a fresh session, if the device process was killed.

    Other processes kill, and so does the system where memory is short. If the process is killed in
    every attempt, what runs there is taken for the cause.

    Parameters
    ----------
    attempt
        Does it once, and closes the session of a device that failed.
    is_killed
        Whether a result of ``attempt`` reports a killed process.
    """
    for _ in range(ATTEMPTS - 1):
        result = attempt()
        if not is_killed(result):
            return result
        _log.warning("the device process was killed; its work is repeated")
    return attempt()


def was_killed(fault: Exception) -> bool:
    """Whether a device fault is a process killed from outside."""
    return isinstance(fault, DeviceCrash) and fault.is_killed
