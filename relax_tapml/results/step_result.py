"""How one boundary did."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from relax_tapml.compare.agreement import Agreement
from relax_tapml.compare.verdict import Verdict
from relax_tapml.crossings import DeviceCall
from relax_tapml.frontend.model import Meaning
from relax_tapml.results.json_codec import NOT_IN_JSON, Count, Number, Seconds


class Purpose(StrEnum):
    """Why a boundary is tried."""

    BASELINE = "baseline"
    """Nothing is on the device: the partitioned source must give the source's outputs."""
    MOVE = "move"
    """More is on the device than in the last good step."""
    SEARCH = "search"
    """Which of what moved in a failed step is wrong?"""
    REDUCE = "reduce"
    """What else must be on the device for a move group to fail?"""
    PIPELINE = "pipeline"
    """No boundary: the module that the device's pipeline returned is run as a whole."""
    CACHE = "cache"
    """No boundary: the model is run as a whole, with its KV cache on the device, too."""


@dataclass(frozen=True, kw_only=True)
class StepSeconds:
    """Seconds for partition, bytecode and link; and for the hybrid runs of all samples."""

    shift: Seconds | None = None
    run: Seconds | None = None

    @property
    def total(self) -> float:
        """Both."""
        return (self.shift or 0.0) + (self.run or 0.0)


@dataclass(frozen=True, kw_only=True)
class AgreementResult:
    """Whether the model's answers are the source's, of ``Agreement``; no cosine where it is NaN."""

    meaning: Meaning
    total: Count
    same: Count
    ties: Count
    diverged: Count
    best: Count | None
    cosine: float | None

    @classmethod
    def of(cls, found: Agreement) -> AgreementResult:
        """Return what is stored of an agreement."""
        cosine = found.cosine
        return cls(
            meaning=found.meaning,
            total=found.total,
            same=found.same,
            ties=found.ties,
            diverged=found.diverged,
            best=found.best,
            cosine=cosine if cosine is not None and math.isfinite(cosine) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Exhaustion:
    """A unit that fails after some calls in one session, alone: it uses something up.

    Parameters
    ----------
    calls
        How many it took; the calls before were right.
    verdict
        How that one ended.
    reason
        Why, in one sentence.
    """

    calls: Count
    verdict: Verdict
    reason: str

    @property
    def text(self) -> str:
        """Its description, for people."""
        return (
            f"right at first, but wrong after {self.calls - 1} calls in one session, alone: "
            f"{self.reason}. It may use up handles or memory, or count its calls"
        )


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """How one boundary did, as in ``result.json``.

    Parameters
    ----------
    boundary
        The move groups on the device, sorted.
    moved
        Those of them that the last good step did not have.
    unit
        The group that moved, if it is just one.
    purpose
        Why it was tried.
    verdict, reason, error
        The outcome, why in one sentence, and the largest absolute error of the outputs.
        ``inconclusive`` where the outputs agree, and no output of any sample is judged sharply.
    runs, failures
        How often it was run, and how often that failed.
    flaky
        Groups that are flaky by themselves, found because this step was: failures and runs.
    exhausting
        Groups whose unit is right at first, and wrong after many calls in one session, found
        because this step failed.
    session
        What was found about the session, where it fails whatever moves; empty otherwise. In a
        fresh session the boundary is right.
    seconds
        For the partition, and for the runs.
    kernels_built
        Kernels compiled in this step.
    regions, crossings, crossing_bytes
        Device calls in the program, values copied from one side to the other between them, and
        their bytes, None where only the run knows a shape. Weights, which stay on the device, are
        not counted.
    bytes_moved, bytes_to_device
        Tensor bytes that crossed, and those of them that went to the device; None in results of
        before it was recorded.
    agreement
        Whether the model's answers are the source's; None where its outputs have no known meaning,
        or there are none.
    ties
        Where units chose otherwise than the source among equal scores, a sentence each. The outputs
        were then compared with the choices replaced by those of the source.
    calls
        The device calls of the program, which have a file of their own (``calls_file``); empty in
        a step that was read.
    """

    boundary: tuple[str, ...]
    moved: tuple[str, ...] = ()
    unit: str | None = None
    purpose: Purpose = Purpose.MOVE
    verdict: Verdict
    reason: str = ""
    error: Number | None = None
    runs: Count = 1
    failures: Count = 0
    flaky: dict[str, tuple[Count, Count]] = field(default_factory=dict)
    seconds: StepSeconds
    kernels_built: Count = 0
    regions: Count = 0
    crossings: Count = 0
    crossing_bytes: Count | None = None
    bytes_moved: Count = 0
    bytes_to_device: Count | None = None
    agreement: AgreementResult | None = None
    exhausting: dict[str, Exhaustion] = field(default_factory=dict)
    session: str = ""
    ties: tuple[str, ...] = ()
    calls: tuple[DeviceCall, ...] = field(default=(), metadata=NOT_IN_JSON)
