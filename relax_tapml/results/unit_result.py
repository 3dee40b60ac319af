"""What a run found out about one unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from relax_tapml.compare.comparison import Comparison
from relax_tapml.compare.power import Power
from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.error_map_result import ErrorMapResult
from relax_tapml.results.json_codec import Count, MetricValue, Number, Value
from relax_tapml.results.repair_result import BlameResult, RepairResult


@dataclass(frozen=True, kw_only=True)
class FirstMismatch:
    """The first value in row-major order that is too far off, of ``Comparison``."""

    index: tuple[int, ...]
    expected: Value | None
    actual: Value | None
    ulp: int | None = None


Metrics = dict[str, MetricValue | None]
"""All metrics of one comparison, by name; None where a metric has no value."""


def metrics_of(comparison: Comparison) -> Metrics:
    """Return the metrics of a comparison."""
    return {
        "values": comparison.total,
        "unjudged": comparison.unjudged,
        "mismatches": comparison.mismatches,
        "ties": comparison.ties,
        **comparison.metrics,
    }


@dataclass(frozen=True, kw_only=True)
class PowerResult:
    """What the tolerance of an output sees, of ``Power``.

    Parameters
    ----------
    share, terms, sees, blunt
        As in ``Power``: None, 0, nothing and true where no value is judged.
    """

    share: Number | None
    terms: Count | None
    sees: tuple[str, ...]
    blunt: bool

    @classmethod
    def of(cls, power: Power | None) -> PowerResult:
        """Return what is stored of a power; None where no value is judged."""
        if power is None:
            return cls(share=None, terms=0, sees=(), blunt=True)
        return cls(
            share=power.share,
            terms=power.terms,
            sees=tuple(str(error) for error in power.sees),
            blunt=power.is_blunt,
        )


@dataclass(frozen=True, kw_only=True)
class CasePower(PowerResult):
    """What the tolerance of one output of a case sees; ``blunt`` also where its cosine is negative.

    Parameters
    ----------
    case
        Name of the case.
    probe
        Whether its inputs were made and not recorded.
    output
        Its position.
    """

    case: str
    probe: bool = False
    output: Count


@dataclass(frozen=True, kw_only=True)
class DimResult:
    """A symbolic dimension that had one value only in the recorded calls, as in the suite."""

    name: str
    value: int
    probed: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class UnitOutcome:
    """How a unit ended and by which comparison, wherever that is reported.

    Parameters
    ----------
    name
        Of the unit.
    verdict, reason
        How it ended, and why in one sentence; empty for a pass.
    runs, failures
        How often the decisive case was run, and how often that failed.
    device
        Name of the device that decided; empty where nothing was to be run.
    precision, precision_reason
        ``low`` where only the device's low-precision math lets the unit pass, and its cause.
    error, tolerance
        Of the value that decided: how far off it is, and how far it may be.
    tolerance_origin
        Where the tolerance comes from.
    blunt
        The outputs that no case judges sharply, where the unit is ``inconclusive`` for that.
    """

    name: str
    verdict: Verdict
    reason: str = ""
    runs: Count = 1
    failures: Count = 0
    device: str = ""
    precision: str | None = None
    precision_reason: str = ""
    error: Number | None = None
    tolerance: Number | None = None
    tolerance_origin: str | None = None
    blunt: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnitResult(UnitOutcome):
    """One unit of ``result.json``: alone on recorded inputs, and in the context of the model.

    Verdict, reason, runs, failures and error are the last word on the unit. Where that is of the
    model's run, tolerance, metrics and first mismatch are None.

    Parameters
    ----------
    alone
        The verdict of its cases alone; None in results of before it was recorded.
    cases, probes
        How many recorded cases and how many probes it has.
    case
        Name of the case that decided; None without one.
    metrics, first
        Of the comparison that decided.
    error_map
        Where it found wrong values; None for another verdict, and where shapes differ.
    power
        What the tolerances of its cases see, for each output that passes.
    sites
        How many calls of it the model has.
    origin, origins
        Where in the model they come from: in short, and by site.
    on_device
        Whether all of its sites that may move are on the device in the last good step, which the
        bundle holds; a repaired unit with its repair.
    together
        Units that must be on the device, too, for it to fail.
    right_calls
        How many calls in one session are right before it fails; None if that is not why it fails.
    constant_inputs, inexact
        Inputs that are the same in all cases; what of its sums no case shows.
    dims_seen_once
        Symbolic dimensions that had one value only.
    target_kernel
        What the compiler calls the kernel that the target has in the place of the source's; empty
        where both are made from one kernel.
    blame, repair
        Where its fault is, and how it does with another kernel; None where none was looked for.
    """

    alone: Verdict | None = None
    cases: Count = 0
    probes: Count = 0
    case: str | None = None
    metrics: Metrics | None = None
    first: FirstMismatch | None = None
    error_map: ErrorMapResult | None = None
    power: tuple[CasePower, ...] = ()
    sites: Count = 0
    origin: str = ""
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    on_device: bool | None = None
    together: tuple[str, ...] = ()
    right_calls: Count | None = None
    constant_inputs: tuple[str, ...] = ()
    inexact: str = ""
    dims_seen_once: tuple[DimResult, ...] = ()
    target_kernel: str = ""
    blame: BlameResult | None = None
    repair: RepairResult | None = None

    @property
    def is_low_precision(self) -> bool:
        """Whether it passes only with what the device's low-precision math is allowed."""
        return self.verdict is Verdict.PASS and self.precision == "low"

    @property
    def is_in_context_only(self) -> bool:
        """Whether it fails in the model although it passes alone."""
        return self.verdict is not Verdict.PASS and self.alone is Verdict.PASS


@dataclass(frozen=True, kw_only=True)
class OutputResult:
    """One output of one case, compared.

    Parameters
    ----------
    verdict, error, tolerance, tolerance_origin, metrics
        Of the comparison.
    power
        What the tolerance sees; None for a mismatch, and where there is no value.
    """

    verdict: Verdict
    error: Number | None
    tolerance: Number | None
    tolerance_origin: str
    metrics: Metrics
    power: PowerResult | None = None


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """One case of a replayed unit."""

    name: str
    site: str
    verdict: Verdict
    reason: str = ""
    device: str = ""
    outputs: tuple[OutputResult, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReplayedUnit(UnitOutcome):
    """One unit of ``relax-tapml replay --json``, with all of its cases."""

    cases: tuple[CaseResult, ...] = ()


def culprits(units: Iterable[UnitOutcome]) -> list[str]:
    """Return the names of the units that are wrong on the target, in order."""
    return [unit.name for unit in units if unit.verdict.is_wrong]
