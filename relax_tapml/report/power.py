"""What the tolerances of a run could not see, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.quantities import as_number, count_text

_NAMED_AT_MOST = 3


@dataclass(frozen=True, kw_only=True)
class PowerRow:
    """One output of one case, or of one sample, as a row of a table."""

    case: str
    output: int
    share: str
    terms: str
    sees: str
    is_blunt: bool


def power_rows(documents: Sequence[Mapping[str, Any]]) -> list[PowerRow]:
    """Return a row for each entry of a unit's ``power``, or of the run's ``outputs``."""
    return [
        PowerRow(
            case=str(one.get("case", one.get("sample", ""))),
            output=one["output"],
            share=share_text(one["share"]),
            terms="any number" if one["terms"] is None else str(one["terms"]),
            sees=", ".join(one["sees"]) or "nothing",
            is_blunt=one["blunt"],
        )
        for one in documents
    ]


def share_text(share: float | str | None) -> str:
    """Write what share of an output's RMS its tolerance is; a dash where there is none."""
    number = as_number(share)
    if number is None or math.isnan(number):
        return "-"
    return f"{100 * number:.3g} %"


def power_sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what is shown of a run whose tolerances are blunt in places; nothing if none is."""
    said = []
    reason = result.get("reason")
    if reason and result["verdict"] == Verdict.PASS:
        said.append(f"{reason[0].upper()}{reason[1:].rstrip('.')}.")
    passing = [unit for unit in result["units"] if not unit.get("blunt")]
    documents = [one for unit in passing for one in unit.get("power") or []]
    units = [
        unit["name"] for unit in passing if any(one["blunt"] for one in unit.get("power") or [])
    ]
    if units:
        blunt = sum(one["blunt"] for one in documents)
        said.append(
            f"{blunt} of {count_text(len(documents), 'output')} of cases and probes "
            f"{'is' if blunt == 1 else 'are'} judged bluntly (zeros, the output negated or scaled "
            f"by 1.1 would pass): no ground for a pass, but {_names(units)} "
            f"{'has' if len(units) == 1 else 'have'} sharper ones."
        )
    unseen = _never_sharp(result.get("outputs") or [])
    if unseen:
        listed = ", ".join(map(str, unseen))
        said.append(
            f"Only blunt tolerances judge output {listed} of the model: that a step agrees there "
            "is no ground for a pass."
        )
    return said


def _never_sharp(outputs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the outputs that no sample judges sharply, if others are; all are told elsewhere."""
    sharp = {one["output"] for one in outputs if not one["blunt"]}
    return sorted({one["output"] for one in outputs} - sharp) if sharp else []


def _names(names: Sequence[str]) -> str:
    if len(names) <= _NAMED_AT_MOST:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED_AT_MOST])} and {len(names) - _NAMED_AT_MOST} more"
