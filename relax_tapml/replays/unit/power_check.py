"""Whether the cases of a unit could have found a wrong kernel."""

from __future__ import annotations

import math
from dataclasses import replace

from relax_tapml.compare.comparison import Comparison
from relax_tapml.compare.power import share_text
from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.unit.unit_replay import UnitReplay

_NAMED_AT_MOST = 3


def check_power(unit: UnitReplay) -> UnitReplay:
    """Return how a unit ends: ``inconclusive`` instead of a pass that no case could have denied.

    Every output must be judged sharply in some case, recorded or probe. One that never is could be
    zeros, and the unit would pass too; the reason names it. Outputs without a value in any case do
    not count.
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
    parts = [
        f"output {output}: {_text(comparisons)}" if len(found) > 1 else _text(comparisons)
        for output, comparisons in list(blunt.items())[:_NAMED_AT_MOST]
    ]
    if len(blunt) > _NAMED_AT_MOST:
        parts.append(f"and {len(blunt) - _NAMED_AT_MOST} more outputs")
    reason = f"no case can tell right from wrong: {'; '.join(parts)}"
    if unit.reason:
        reason = f"{reason} ({unit.reason})"
    return replace(unit, verdict=Verdict.INCONCLUSIVE, reason=reason, blunt=tuple(blunt))


def blunt_reason(comparison: Comparison) -> str:
    """Return why a comparison could not have failed, and how far off the result was."""
    cosine, power = comparison.cosine, comparison.power
    if power is None:
        return comparison.reason
    parts = [power.description] if power.is_blunt else []
    if math.isfinite(power.share) and comparison.snr_db is not None:
        parts.append(f"the result is off by {share_text(10.0 ** (-comparison.snr_db / 20.0))}")
    if cosine is not None and cosine < 0.0:
        parts.append(f"it points away from the oracle (cosine {cosine:.2g})")
    return ", ".join(parts)


def _text(comparisons: list[Comparison]) -> str:
    """Describe the sharpest comparison of an output, and count those that are no better."""
    least = min(
        comparisons, key=lambda item: float("inf") if item.power is None else item.power.least
    )
    reason = blunt_reason(least)
    others = len(comparisons) - 1
    if not others:
        return reason
    cases = "another case sees" if others == 1 else f"{others} other cases see"
    return f"{reason}; {cases} no more"
