"""What was tried for a unit, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tvm import tirx

from relax_tapml.compare.verdict import Verdict
from relax_tapml.repair.alternative import Layer


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
    """

    name: str
    layer: Layer
    text: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class UnitRepair:
    """What was found for a failing unit.

    Parameters
    ----------
    unit
        Its name.
    verdict, reason
        Of the kernel that it has.
    tried
        Alternatives in the order tried; those that do not apply are not among them.
    unmade
        Alternatives that could not be made, or were not tried since the time was up: name to
        reason.
    chosen
        The name of the first that passes; empty if none does.
    kernels
        The kernels of the chosen alternative that differ, by name.
    layer
        Where the fault is.
    text
        A sentence with the evidence.
    """

    unit: str
    verdict: Verdict
    reason: str
    tried: tuple[Tried, ...]
    unmade: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""
    kernels: Mapping[str, tirx.PrimFunc] = field(default_factory=dict)
    layer: Layer = Layer.UNKNOWN
    text: str = ""
