"""Errors a user can act on, and the exit code each one ends the command line with.

A numerical mismatch is not an error but a ``Verdict``. Internal bugs do not derive from
``TapmlError`` and end the command line with 70.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    PASS = 0
    MISMATCH = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INTERNAL = 70


class TapmlError(Exception):
    """What failed, where, expected against got, and the next step, in one message."""

    exit_code = ExitCode.INCONCLUSIVE


class UsageError(TapmlError):
    """The request is wrong: an unknown model or target, inputs that do not fit."""

    exit_code = ExitCode.USAGE


class StoreError(TapmlError):
    """A capture store, suite or bundle on disk cannot be trusted."""


class SourceError(TapmlError):
    """The source cannot be trusted: it differs from the framework, or between two runs."""


class LoweringError(TapmlError):
    """A Relax pass or pipeline raised, or returned a module that lost a unit."""


class MachineError(TapmlError):
    """This machine lacks something: disk space, memory, descriptors, rights, a compiler.

    Neither the model nor a unit is the cause. The message names the cause, its place, and what to
    do; a run can be continued once the cause is gone.
    """


class DeviceFault(TapmlError):  # noqa: N818 - the field's word
    """The device process failed during a call; ``text`` is its output, if any."""

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class DeviceError(DeviceFault):
    """The call raised on the device, which is still alive."""


class DeviceCrash(DeviceFault):
    """The device process ended during a call.

    ``is_killed``: it was killed from outside, by another process or by the system.
    """

    def __init__(self, message: str, *, text: str = "", is_killed: bool = False) -> None:
        super().__init__(message, text=text)
        self.is_killed = is_killed


class DeviceTimeout(DeviceFault):
    """The call did not return in time; the device process was killed."""


class DeviceUnavailable(TapmlError):  # noqa: N818
    """No device session could be opened, or its machine lacks something.

    ``is_passing``: the device process was killed while it started, and another one may start.
    """

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class NotCarvableError(TapmlError):
    """One call cannot be replayed alone; the message is the reason, for a report."""


class InstallationError(MachineError, ImportError):
    """The package's native library, or the passes beside it, are not in Python's import path.

    An ``ImportError`` too: importing a part of the package raises it.
    """
