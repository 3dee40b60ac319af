"""What was tried for a unit, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tvm import tirx

from relax_tapml.compare.verdict import Verdict
from relax_tapml.repair.alternative import Layer
from relax_tapml.results.repair_result import BlameResult, SearchResult, TriedResult


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One alternative, judged on the cases of its unit.

    Parameters
    ----------
    name, layer, text
        Of the alternative.
    verdict
        ``skipped`` where it could not be made.
    reason
        Why it is no pass; empty for one.
    seconds
        What building and judging it took.
    call_s
        How long a call takes; None where it was not measured.
    """

    name: str
    layer: Layer
    text: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    call_s: float | None = None

    @property
    def result(self) -> TriedResult:
        """The same for a file."""
        return TriedResult(
            name=self.name,
            layer=str(self.layer),
            text=self.text,
            verdict=self.verdict,
            reason=self.reason,
            seconds=self.seconds,
            call_s=self.call_s,
        )


@dataclass(frozen=True, kw_only=True)
class UnitRepair:
    """What was found for a failing unit.

    Parameters
    ----------
    unit
        Its name.
    verdict, reason
        Of the kernel that it has.
    call_s
        How long a call of that kernel takes; None where it was not measured.
    tried
        Alternatives in the order tried; those that do not apply are not among them.
    unmade
        Alternatives that could not be made, or were not tried since the time was up: name to
        reason.
    chosen
        The name of the fastest that passes; empty if none does.
    kernels
        The kernels of the chosen alternative that differ, by name.
    layer
        Where the fault is.
    text
        A sentence with the evidence; empty where no other kernel was looked for.
    """

    unit: str
    verdict: Verdict
    reason: str
    tried: tuple[Tried, ...] = ()
    call_s: float | None = None
    unmade: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""
    kernels: Mapping[str, tirx.PrimFunc] = field(default_factory=dict)
    layer: Layer = Layer.UNKNOWN
    text: str = ""

    @property
    def result(self) -> SearchResult:
        """The same for a file, without the kernels."""
        return SearchResult(
            unit=self.unit,
            verdict=self.verdict,
            reason=self.reason,
            call_s=self.call_s,
            blame=BlameResult(layer=str(self.layer), text=self.text) if self.text else None,
            tried=tuple(one.result for one in self.tried),
            unmade=dict(self.unmade),
            chosen=self.chosen,
        )

    @classmethod
    def of(cls, result: SearchResult, kernels: Mapping[str, tirx.PrimFunc]) -> UnitRepair:
        """Return what a file has, with the kernels of the chosen alternative."""
        blame = result.blame
        return cls(
            unit=result.unit,
            verdict=result.verdict,
            reason=result.reason,
            call_s=result.call_s,
            tried=tuple(
                Tried(
                    name=one.name,
                    layer=Layer(one.layer),
                    text=one.text,
                    verdict=one.verdict,
                    reason=one.reason,
                    seconds=one.seconds,
                    call_s=one.call_s,
                )
                for one in result.tried
            ),
            unmade=result.unmade,
            chosen=result.chosen,
            kernels=kernels,
            layer=Layer.UNKNOWN if blame is None else Layer(blame.layer),
            text="" if blame is None else blame.text,
        )
