"""Symbolic dimensions that had one value only, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from relax_tapml.printable import names_text
from relax_tapml.report.quantities import count_text
from relax_tapml.results.run_result import RunResult


@dataclass(kw_only=True)
class DimRow:
    """A symbolic dimension that had one value in every recorded call.

    Parameters
    ----------
    name, value
        Which, and the value it had.
    probed
        Units with probes that have other values: name to these values.
    unprobed
        Units without: name to reason.
    """

    name: str
    value: int
    probed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unprobed: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What was tried instead, as one sentence."""
        parts = []
        if self.probed:
            tried = sorted(set().union(*self.probed.values()))
            values = ", ".join(map(str, tried))
            parts.append(f"probes of {count_text(len(self.probed), 'unit')} use {values}")
        reasons: dict[str, list[str]] = {}
        for unit, reason in self.unprobed.items():
            reasons.setdefault(reason, []).append(unit)
        for reason, units in reasons.items():
            why = f", because {reason}" if reason else ""
            parts.append(f"no probe of {', '.join(units)} uses another value{why}")
        return "; ".join(parts)


def dim_rows(result: RunResult) -> list[DimRow]:
    """Return the dimensions of a run that had one value only, in the order of the units."""
    rows: dict[tuple[str, int], DimRow] = {}
    for unit in result.units:
        for dim in unit.dims_seen_once:
            row = rows.setdefault((dim.name, dim.value), DimRow(name=dim.name, value=dim.value))
            if dim.probed:
                row.probed[unit.name] = dim.probed
            else:
                row.unprobed[unit.name] = dim.reason
    return list(rows.values())


def dims_text(result: RunResult) -> str:
    """Return a sentence about these dimensions, empty if there are none."""
    rows = dim_rows(result)
    if not rows:
        return ""
    named = names_text([f"{row.name} = {row.value}" for row in rows])
    return (
        f"{count_text(len(rows), 'symbolic dimension')} had one value only in the recorded calls: "
        f"{named}. The report lists the other values that probes use."
    )
