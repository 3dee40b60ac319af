"""What repairs gave: for a unit that failed, and for the model with all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.json_codec import Count, Number, Seconds
from relax_tapml.results.step_result import StepResult

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class BlameResult:
    """Where the fault of a unit is.

    Parameters
    ----------
    layer
        One of ``repair.alternative.Layer``.
    text
        A sentence with the evidence.
    """

    layer: str
    text: str


@dataclass(frozen=True, kw_only=True)
class TriedResult:
    """One other kernel of a unit, judged on the unit's cases.

    Parameters
    ----------
    name, layer, text
        Of the alternative that made it.
    verdict, reason
        How its cases ended.
    seconds
        What building and judging it took.
    call_s
        How long one call of the largest recorded case takes, by the device's clock, the median of
        several rounds; None where it was not measured.
    """

    name: str
    layer: str
    text: str
    verdict: Verdict
    reason: str = ""
    seconds: Seconds = 0.0
    call_s: Number | None = None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What the search for another kernel of a unit found.

    Parameters
    ----------
    unit
        Its name.
    verdict, reason
        Of the kernel that it has.
    call_s
        How long a call of that kernel takes; None where it was not measured.
    blame
        Where its fault is; None where no other kernel could be judged.
    tried
        In the order tried.
    unmade
        Alternatives that could not be made, or were not tried since the time was up: name to
        reason.
    chosen
        The fastest of those that pass; empty if none does.
    """

    unit: str
    verdict: Verdict
    reason: str = ""
    call_s: Number | None = None
    blame: BlameResult | None = None
    tried: tuple[TriedResult, ...] = ()
    unmade: dict[str, str] = field(default_factory=dict)
    chosen: str = ""


@dataclass(frozen=True, kw_only=True)
class SearchDocument:
    """What ``relax-tapml repair --json`` prints."""

    schema: int = SCHEMA
    kind: str = "relax_tapml.repair"
    units: tuple[SearchResult, ...]


@dataclass(frozen=True, kw_only=True)
class RepairResult:
    """How a unit that failed does with another kernel.

    Parameters
    ----------
    chosen
        The alternative; empty where none passes.
    verdict, reason
        Of the unit with that kernel: alone, in one program with the other repairs, and in the
        model. ``skipped`` where there is none.
    on_device
        Whether it is on the device in the bundle.
    call_s, own_call_s
        How long a call takes with that kernel, and with the unit's own; None where that was not
        measured.
    tried, unmade
        As in ``SearchResult``.
    """

    chosen: str
    verdict: Verdict
    reason: str = ""
    on_device: bool = False
    call_s: Number | None = None
    own_call_s: Number | None = None
    tried: tuple[TriedResult, ...] = ()
    unmade: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RepairedRun:
    """The model with the repairs of its units.

    Parameters
    ----------
    verdict, reason, culprits
        As those of the run, but with the repairs.
    units_passed, repaired_passed
        How many units pass without and with them.
    units_on_device, repaired_on_device
        How many are on the device without and with them.
    pipeline
        What ``--device-pipeline`` takes to have them, in the output folder; empty where there are
        none.
    steps
        The boundaries that were tried with them.
    """

    verdict: Verdict
    reason: str = ""
    culprits: list[str]
    units_passed: Count
    repaired_passed: Count
    units_on_device: Count
    repaired_on_device: Count
    pipeline: str = ""
    steps: tuple[StepResult, ...] = ()
