"""The words a comparison ends with."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """How one unit, step or run ended; nothing ends without one."""

    PASS = "pass"
    MISMATCH = "mismatch"
    FLAKY = "flaky"
    INCONCLUSIVE = "inconclusive"
    CRASH = "crash"
    TIMEOUT = "timeout"
    BUILD_ERROR = "build_error"
    SKIPPED = "skipped"


FAULTS = frozenset({Verdict.CRASH, Verdict.TIMEOUT})
"""The device did not answer."""

WITHOUT_RESULT = FAULTS | {Verdict.BUILD_ERROR}
"""There was nothing to compare."""
