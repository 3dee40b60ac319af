"""What a suite showed of two builds: ``relax-tapml compare-builds --json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.results.json_codec import Count, Number


class Change(StrEnum):
    """How the verdict on a unit changed from the first build to the second."""

    UNCHANGED = "unchanged"
    BROKEN = "broken"
    """It passed, and is wrong now or does not build."""
    FIXED = "fixed"
    OTHERWISE_WRONG = "otherwise wrong"
    """It was wrong and still is, with another verdict."""
    OPEN = "open"
    """One build says nothing of it, or it fails now and then."""


class Pace(StrEnum):
    """How the speed of a unit changed."""

    UNCHANGED = "unchanged"
    SLOWER = "slower"
    FASTER = "faster"


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """One of the two builds, and what it is made of.

    Parameters
    ----------
    name, target, session, device_pipeline
        As they were given.
    python
        The interpreter.
    environment
        The variables that were given.
    versions
        Of Python and of the distributions that results depend on; empty where that process did
        not start.
    tvm, package
        The folders that it imports TVM and this package from.
    is_transcribed
        Whether its TVM cannot read the modules of the suite and got them as TVMScript.
    reason
        Why it was not replayed; empty if it was.
    """

    name: str
    target: str
    session: str
    device_pipeline: str | None = None
    python: str
    environment: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    tvm: str = ""
    package: str = ""
    is_transcribed: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class BuiltUnit:
    """A unit in one build.

    Parameters
    ----------
    verdict, reason
        How it ended alone, and why.
    error, tolerance
        Of the value that decided: how far off it is, and how far it may be.
    share
        The largest error of all outputs of all cases, each as a share of what it may be; None
        where nothing was compared.
    """

    verdict: Verdict
    reason: str = ""
    error: Number | None = None
    tolerance: Number | None = None
    share: Number | None = None


@dataclass(frozen=True, kw_only=True)
class SpeedChange:
    """A unit timed in both builds, in turns.

    Parameters
    ----------
    case
        The case that was timed: of the recorded ones, the one with most bytes.
    rounds
        How many times each build had its turn, in all sessions.
    seconds
        Median of the rounds of each build, for one call.
    ratio
        Median over the rounds of the second build's time by the first one's: above 1, the second
        is slower.
    low, high
        The bounds between which the true median of this ratio lies, by the spread of the rounds.
    pace
        What is concluded: a change is beyond both the threshold and this spread in each of three
        sessions.
    """

    case: str
    rounds: Count
    seconds: tuple[Number, Number]
    ratio: Number
    low: Number
    high: Number
    pace: Pace


@dataclass(frozen=True, kw_only=True)
class UnitChange:
    """One unit in both builds.

    Parameters
    ----------
    name
        Of the unit.
    units
        How it did in each; None in a build that was not replayed.
    change
        Of the verdict.
    is_regression
        Whether the second build is worse.
    speed, speed_reason
        None where it was not measured, and why; no reason where that was not asked for.
    """

    name: str
    units: tuple[BuiltUnit | None, BuiltUnit | None]
    change: Change
    is_regression: bool = False
    speed: SpeedChange | None = None
    speed_reason: str = ""

    @property
    def has_error_changed(self) -> bool:
        """Whether the largest error, as a share of what it may be, is another one."""
        shares = [None if unit is None else unit.share for unit in self.units]
        return None not in shares and shares[0] != shares[1]

    @property
    def is_changed(self) -> bool:
        """Whether anything about it is to be told."""
        has_pace = self.speed is not None and self.speed.pace is not Pace.UNCHANGED
        return self.change is not Change.UNCHANGED or self.has_error_changed or has_pace


@dataclass(frozen=True, kw_only=True)
class BuildComparison:
    """What changed from one build to another.

    Parameters
    ----------
    schema
        Of the document.
    suite
        As it was given.
    builds
        The two.
    threshold
        By which share a unit must be slower or faster.
    is_slower_regression
        Whether a slower unit is a regression.
    units
        In the order of the suite.
    exit_code
        1 if a unit is a regression; 3 if a build was not replayed, a unit is open, or none was
        judged in both; otherwise 0.
    """

    schema: int = 1
    suite: str
    builds: tuple[BuildResult, BuildResult]
    threshold: Number
    is_slower_regression: bool
    units: tuple[UnitChange, ...]
    exit_code: ExitCode

    @property
    def regressions(self) -> list[str]:
        """Names of the units that are worse in the second build."""
        return [unit.name for unit in self.units if unit.is_regression]
