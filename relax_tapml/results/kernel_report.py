"""What was found out about a kernel that somebody wrote: ``relax-tapml verify --json``."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.compare.verdict import Verdict, exit_code_of
from relax_tapml.errors import ExitCode
from relax_tapml.results.json_codec import Count, Number
from relax_tapml.results.unit_result import CasePower, CaseResult, FirstMismatch


@dataclass(frozen=True, kw_only=True)
class HeldOutResult:
    """Cases that are made anew for each verdict. No name, value or number of failures is told.

    Parameters
    ----------
    count
        How many were judged.
    boundary
        Those of them that have other extents of symbolic dimensions than were recorded.
    passed
        Whether all passed; None if there are none, or if a shown case had ended the session.
    reasons
        Why there are none of some kind, each once.
    """

    count: Count
    boundary: Count
    passed: bool | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SpeedResult:
    """A kernel that passed, beside the unit's own one.

    Parameters
    ----------
    case
        The case that was timed: of the recorded ones, the one with most bytes.
    clock
        What measured it.
    calls
        How many calls each had, in turns, each with inputs and memory of its own.
    seconds, own_seconds
        Medians of these.
    ratio
        ``own_seconds / seconds``: above 1, the candidate is faster.
    bytes
        Of the arguments that are read and those that are written, each once.
    bytes_per_s, own_bytes_per_s
        These bytes in the seconds above.
    copy_bytes_per_s
        The same for a copy of as many bytes on the device, in turns with the others.
    copy_share
        ``bytes_per_s / copy_bytes_per_s``; above 1 where caches serve the kernel better.
    """

    case: str
    clock: str
    calls: Count
    seconds: Number
    own_seconds: Number
    ratio: Number
    bytes: Count
    bytes_per_s: Number
    own_bytes_per_s: Number
    copy_bytes_per_s: Number
    copy_share: Number


@dataclass(frozen=True, kw_only=True)
class KernelReport:
    """The verdict on a kernel.

    Parameters
    ----------
    schema
        Of the document.
    unit, kernel, target
        What was judged, where the kernel came from, and where it ran.
    verdict, reason
        How it ended, and why; the reason is empty for a pass.
    first_case, first_output, first
        The first wrong value of the case that decided; None for another verdict, and where only
        held-out cases fail.
    cases
        The cases that the suite shows: recorded ones and probes.
    power
        What the tolerances of these see, for each output that passes.
    held_out
        The other cases.
    repeat
        How often each case was run.
    deterministic
        Whether all runs of a case gave the same bytes; None if no case was run twice.
    speed
        Only after a pass; None where it was not asked for, or could not be measured.
    speed_reason
        Why not; empty otherwise.
    """

    schema: int = 1
    unit: str
    kernel: str
    target: str
    verdict: Verdict
    reason: str = ""
    first_case: str | None = None
    first_output: Count | None = None
    first: FirstMismatch | None = None
    cases: tuple[CaseResult, ...] = ()
    power: tuple[CasePower, ...] = ()
    held_out: HeldOutResult
    repeat: Count = 1
    deterministic: bool | None = None
    speed: SpeedResult | None = None
    speed_reason: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """0 for a pass, 1 for a kernel that is wrong, 3 if that is open."""
        return exit_code_of([self.verdict])
