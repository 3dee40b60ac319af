"""What the tolerances of a run could not see, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    if number is None or number != number:
        return "-"
    return f"{100 * number:.3g} %" if number < 1e4 else f"{number:.0e} times"


def power_sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what is shown of a run whose tolerances are blunt in places; nothing if none is."""
    said = []
    documents = [one for unit in result["units"] for one in unit.get("power") or []]
    blunt = sum(one["blunt"] for one in documents)
    if blunt:
        units = [
            unit["name"]
            for unit in result["units"]
            if not unit.get("blunt") and any(one["blunt"] for one in unit.get("power") or [])
        ]
        others = f"; {_names(units)} also {_have(units)} sharp ones" if units else ""
        said.append(
            f"{blunt} of {count_text(len(documents), 'comparison')} with recorded or probed "
            f"outputs {'is' if blunt == 1 else 'are'} blunt: zeros, the output negated or scaled "
            f"by 1.1 would pass, so {'it is' if blunt == 1 else 'they are'} no ground for a "
            f"pass{others}."
        )
    unseen = _never_sharp(result.get("outputs") or [])
    if unseen:
        listed = ", ".join(map(str, unseen))
        said.append(
            f"Of the model, output {listed} is judged by blunt tolerances only: what the steps say "
            "of it is no ground for a pass."
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


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
