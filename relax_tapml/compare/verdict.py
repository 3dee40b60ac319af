"""The words a comparison ends with, how grave each is, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from relax_tapml.errors import DeviceFault, DeviceTimeout, ExitCode


class Verdict(StrEnum):
    """How one unit, step or run ended, the gravest first; nothing ends without one."""

    CRASH = "crash"
    TIMEOUT = "timeout"
    MISMATCH = "mismatch"
    FLAKY = "flaky"
    BUILD_ERROR = "build_error"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"
    SKIPPED = "skipped"

    @property
    def is_wrong(self) -> bool:
        """Whether something is wrong on the target, and what it is about is a culprit."""
        return self in WRONG

    @property
    def gravity(self) -> int:
        """Its place in the order of gravity, 0 for the gravest."""
        return list(Verdict).index(self)


FAULTS = frozenset({Verdict.CRASH, Verdict.TIMEOUT})
"""The device did not answer."""

WITHOUT_RESULT = FAULTS | {Verdict.BUILD_ERROR}
"""There was nothing to compare."""

WRONG = WITHOUT_RESULT | {Verdict.MISMATCH, Verdict.FLAKY}
"""The target is wrong."""


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the gravest of some verdicts, at least one."""
    return min(verdicts, key=lambda verdict: verdict.gravity)


def verdict_of(fault: DeviceFault) -> Verdict:
    """Return the verdict that a device fault stands for."""
    return Verdict.TIMEOUT if isinstance(fault, DeviceTimeout) else Verdict.CRASH


def exit_code_of(verdicts: Iterable[Verdict]) -> ExitCode:
    """Return 1 if one is wrong; 3 if one is inconclusive, or none is a pass; otherwise 0."""
    found = set(verdicts)
    if found & WRONG:
        return ExitCode.MISMATCH
    is_clear = Verdict.PASS in found and Verdict.INCONCLUSIVE not in found
    return ExitCode.PASS if is_clear else ExitCode.INCONCLUSIVE
