"""Which errors the tolerances of a run cannot detect, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from relax_tapml.compare import power
from relax_tapml.compare.verdict import Verdict
from relax_tapml.printable import names_text
from relax_tapml.report.findings import capitalized, closed
from relax_tapml.report.quantities import count_text
from relax_tapml.results.run_result import OutputPower, RunResult
from relax_tapml.results.unit_result import CasePower


@dataclass(frozen=True, kw_only=True)
class PowerRow:
    """One output of one case, or of one sample, as a row of a table.

    ``terms`` is how many equal terms a sum may have for one that is missing to be detected; empty
    where it is never.
    """

    case: str
    output: int
    share: str
    terms: str
    sees: str
    is_blunt: bool


def power_rows(outputs: Sequence[CasePower | OutputPower]) -> list[PowerRow]:
    """Return a row for each entry of a unit's ``power``, or of the run's ``outputs``."""
    return [
        PowerRow(
            case=one.case if isinstance(one, CasePower) else one.sample,
            output=one.output,
            share=share_text(one.share),
            terms=_terms_text(one.terms),
            sees=", ".join(one.sees) or "nothing",
            is_blunt=one.blunt,
        )
        for one in outputs
    ]


def share_text(share: float | None) -> str:
    """Write what share of an output's RMS its tolerance is; a dash where there is none."""
    return "-" if share is None or math.isnan(share) else power.share_text(share)


def _terms_text(terms: int | None) -> str:
    if terms is None:
        return "any number of"
    return f"at most {terms}" if terms else ""


def power_sentences(result: RunResult) -> list[str]:
    """Return a sentence for each kind of output that has blunt tolerances; nothing without any."""
    sentences = []
    if result.reason and result.verdict is Verdict.PASS:
        sentences.append(capitalized(closed(result.reason)))
    passing = [unit for unit in result.units if not unit.blunt]
    outputs = [one for unit in passing for one in unit.power]
    units = [unit.name for unit in passing if any(one.blunt for one in unit.power)]
    if units:
        blunt = sum(one.blunt for one in outputs)
        sentences.append(
            f"{blunt} of {count_text(len(outputs), 'output')} of cases and probes "
            f"{'has a blunt tolerance' if blunt == 1 else 'have blunt tolerances'} (zeros, or the "
            f"output negated or scaled by 1.1, would pass); {names_text(units)} "
            f"{'passes' if len(units) == 1 else 'pass'} because of other cases, which are sharp."
        )
    blunt_only = _never_sharp(result.outputs)
    if blunt_only:
        listed = ", ".join(map(str, blunt_only))
        sentences.append(
            f"Only blunt tolerances judge output {listed} of the model: agreement there does not "
            "make a step pass."
        )
    return sentences


def _never_sharp(outputs: Sequence[OutputPower]) -> list[int]:
    """Return the outputs that no sample judges sharply, if others are.

    Where none is, the reason of the run states it.
    """
    sharp = {one.output for one in outputs if not one.blunt}
    return sorted({one.output for one in outputs} - sharp) if sharp else []
