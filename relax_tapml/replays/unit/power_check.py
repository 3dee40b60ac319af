"""Whether the cases of a unit are ground for a pass."""

from __future__ import annotations

import math
from dataclasses import replace

from relax_tapml.compare.comparison import Comparison
from relax_tapml.compare.power import share_text
from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.unit.unit_replay import UnitReplay

_NAMED_AT_MOST = 3


def grounded(unit: UnitReplay) -> UnitReplay:
    """Return how a unit ends, with a pass that no case is ground for as ``inconclusive``.

    Every output must be judged sharply in some case, recorded or probe. One that never is could be
    zeros, and the unit would pass too; so it is named. Outputs without a value in any case do not
    count.
    """
    if unit.verdict is not Verdict.PASS:
        return unit
    found: dict[int, list[Comparison]] = {}
    for case in unit.cases:
        for output, comparison in enumerate(case.comparisons):
            if not comparison.is_empty:
                found.setdefault(output, []).append(comparison)
    blunt = {
        output: comparisons
        for output, comparisons in found.items()
        if not any(comparison.is_sharp for comparison in comparisons)
    }
    if not blunt:
        return unit
    told = [
        f"output {output}: {_told(comparisons)}" if len(found) > 1 else _told(comparisons)
        for output, comparisons in list(blunt.items())[:_NAMED_AT_MOST]
    ]
    if len(blunt) > _NAMED_AT_MOST:
        told.append(f"and {len(blunt) - _NAMED_AT_MOST} more outputs")
    reason = f"no case can tell right from wrong: {'; '.join(told)}"
    if unit.reason:
        reason = f"{reason} ({unit.reason})"
    return replace(unit, verdict=Verdict.INCONCLUSIVE, reason=reason, blunt=tuple(blunt))


def bluntness(comparison: Comparison) -> str:
    """Say why a comparison is no ground for a pass, and how far off the result was all the same."""
    cosine, power = comparison.cosine, comparison.power
    if power is None:
        return comparison.reason
    told = [power.description] if power.is_blunt else []
    if math.isfinite(power.share) and comparison.snr_db is not None:
        told.append(f"the result is off by {share_text(10.0 ** (-comparison.snr_db / 20.0))}")
    if cosine is not None and cosine < 0.0:
        told.append(f"it points away from the oracle (cosine {cosine:.2g})")
    return ", ".join(told)


def _told(comparisons: list[Comparison]) -> str:
    """Say what the sharpest comparison of an output passes, and how many others do no better."""
    least = min(
        comparisons, key=lambda item: float("inf") if item.power is None else item.power.least
    )
    told = bluntness(least)
    others = len(comparisons) - 1
    if not others:
        return told
    return f"{told}; {'another case sees' if others == 1 else f'{others} other cases see'} no more"
