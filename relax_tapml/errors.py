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
    """An error whose message states what failed, where, expected against got, and the next step."""

    exit_code = ExitCode.INCONCLUSIVE


class UsageError(TapmlError):
    """The request itself is wrong: an unknown model or target, inputs that do not fit."""

    exit_code = ExitCode.USAGE


class StoreError(TapmlError):
    """A capture store, suite or bundle on disk cannot be trusted."""


class SourceError(TapmlError):
    """The source cannot be an oracle: it differs from the framework, or from its own first run."""


class LoweringError(TapmlError):
    """A Relax pass or pipeline raised, or returned a module that lost a unit."""


class MachineError(TapmlError):
    """The machine that runs the tool lacks disk, memory, descriptors, rights, a compiler, ...

    It is not a finding about the model or a unit. The message names the cause, the place and what
    to do. A run can be continued when the cause is gone.
    """


class DeviceFault(TapmlError):  # noqa: N818 - the field's word
    """The device process failed during a call; ``text`` is its output or error, if any."""

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class DeviceError(DeviceFault):
    """The call raised an exception on the device, whose process still runs."""


class DeviceCrash(DeviceFault):
    """The device process died.

    ``is_killed`` is true if another process, or the system, ended it, and not a kernel.
    """

    def __init__(self, message: str, *, text: str = "", is_killed: bool = False) -> None:
        super().__init__(message, text=text)
        self.is_killed = is_killed


class DeviceTimeout(DeviceFault):
    """The call did not return in time, so the device process was ended."""


class DeviceUnavailable(TapmlError):  # noqa: N818
    """No device session could be opened, or its machine lacks something.

    ``is_passing`` is true if the process of the device was ended while it started: another attempt
    may succeed.
    """

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class NotCarvableError(TapmlError):
    """One call cannot be replayed alone; the message is the reason for the report."""


class InstallationError(MachineError, ImportError):
    """Python does not find the native library of the package, or the passes.

    It is an ``ImportError`` too, since it is raised while the package is imported.
    """
