"""Verdicts: how something ended, how severe that is, and its consequences."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from relax_tapml.errors import DeviceFault, DeviceTimeout, ExitCode


class Verdict(StrEnum):
    """How a unit, step or run ended, the most severe first; each has a verdict."""

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
        """Whether something is wrong on the target, which makes its subject a culprit."""
        return self in WRONG

    @property
    def severity(self) -> int:
        """The position in the order of severity, 0 for the most severe."""
        return list(Verdict).index(self)


FAULTS = frozenset({Verdict.CRASH, Verdict.TIMEOUT})
"""The device did not return a result."""

WITHOUT_RESULT = FAULTS | {Verdict.BUILD_ERROR}
"""The device returned no result to compare."""

WRONG = WITHOUT_RESULT | {Verdict.MISMATCH, Verdict.FLAKY}
"""Something is wrong on the target."""


def most_severe(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe of one or more verdicts."""
    return min(verdicts, key=lambda verdict: verdict.severity)


def verdict_of(fault: DeviceFault) -> Verdict:
    """Return the verdict of a device fault."""
    return Verdict.TIMEOUT if isinstance(fault, DeviceTimeout) else Verdict.CRASH


def exit_code_of(verdicts: Iterable[Verdict]) -> ExitCode:
    """Return 1 if one is wrong; 3 if one is inconclusive, or none is a pass; otherwise 0."""
    found = set(verdicts)
    if found & WRONG:
        return ExitCode.MISMATCH
    is_clear = Verdict.PASS in found and Verdict.INCONCLUSIVE not in found
    return ExitCode.PASS if is_clear else ExitCode.INCONCLUSIVE
