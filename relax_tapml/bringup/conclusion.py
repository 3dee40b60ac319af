"""The verdict of a run, its culprits, and why it does not pass."""

from __future__ import annotations

from collections.abc import Sequence

from relax_tapml.bringup._judged_outputs import blunt_outputs_text
from relax_tapml.bringup.alone import Alone
from relax_tapml.bringup.migrate_model import Migrated
from relax_tapml.compare.verdict import Verdict, most_severe
from relax_tapml.printable import names_text
from relax_tapml.results.pipeline_result import PipelineResult
from relax_tapml.results.unit_result import UnitResult, culprits

_NOTHING_COMPARED = "no unit was compared on the target"


def overall_verdict(units: Sequence[UnitResult]) -> Verdict:
    """Return the verdict of a run by its units; nothing compared, or disputed, is no pass."""
    wrong = [unit.verdict for unit in units if unit.verdict.is_wrong]
    if wrong:
        return most_severe(wrong)
    verdicts = {unit.verdict for unit in units}
    is_clear = Verdict.PASS in verdicts and Verdict.INCONCLUSIVE not in verdicts
    return Verdict.PASS if is_clear else Verdict.INCONCLUSIVE


def inconclusive_reason(units: Sequence[UnitResult]) -> str:
    """Return why a run without culprits does not pass."""
    open_units = [unit for unit in units if unit.verdict is Verdict.INCONCLUSIVE]
    blunt = [unit.name for unit in open_units if unit.blunt]
    disputed = [unit.name for unit in open_units if not unit.blunt]
    reasons = []
    if blunt:
        reasons.append(
            f"{len(blunt)} of {len(units)} units {'has' if len(blunt) == 1 else 'have'} an output "
            "that only blunt tolerances judge, which a grossly wrong result would pass too "
            f"({names_text(blunt)})"
        )
    if disputed:
        reasons.append(f"devices disagree about {', '.join(disputed)}")
    return "; ".join(reasons) or _NOTHING_COMPARED


def conclusion(
    units: Sequence[UnitResult], migrated: Migrated, alone: Alone | None, failure: str
) -> tuple[Verdict, list[str], str]:
    """Return verdict, culprits and reason of a run."""
    if failure:
        return Verdict.INCONCLUSIVE, [], failure
    verdict, names = overall_verdict(units), culprits(units)
    reason = inconclusive_reason(units) if verdict is Verdict.INCONCLUSIVE else ""
    blunt = blunt_outputs_text(migrated.outputs)
    if blunt:
        # The units are judged alone all the same: a run of sharp ones passes, with this reason.
        reason = "; ".join(filter(None, (reason, blunt)))
    if migrated.pipeline is not None:
        verdict, names, reason = with_pipeline(verdict, names, reason, migrated.pipeline)
    cache = migrated.cache
    if cache is not None and not names:
        if cache.verdict.is_wrong:  # What makes it is no unit.
            verdict, names, reason = cache.verdict, list(cache.units), ""
        elif cache.verdict in (Verdict.INCONCLUSIVE, Verdict.FLAKY):
            verdict, reason = Verdict.INCONCLUSIVE, cache.reason
    worn_out = [step.session for step in migrated.steps if step.session]
    if worn_out and not names:
        verdict, reason = Verdict.INCONCLUSIVE, worn_out[0]
    lost = migrated.lost or ("" if alone is None else alone.lost)
    if lost:
        verdict = verdict if names else Verdict.INCONCLUSIVE
        reason = f"{lost.rstrip('.')}. Continue with --resume"
    if migrated.source_error is not None:
        verdict = verdict if names else Verdict.INCONCLUSIVE
        reason = f"the migration stopped: {migrated.source_error}"
    return verdict, names, reason


def with_pipeline(
    verdict: Verdict, names: list[str], reason: str, pipeline: PipelineResult
) -> tuple[Verdict, list[str], str]:
    """Return verdict, culprits and reason of a run whose pipeline changes Relax functions.

    Parameters
    ----------
    verdict, names, reason
        By the units.
    pipeline
        By the module that the pipeline returned.
    """
    passes = pipeline.culprits
    if passes:
        return (verdict, [*names, *passes], reason) if names else (pipeline.verdict, passes, "")
    if names:
        return verdict, names, reason
    if pipeline.verdict is not Verdict.PASS:
        return Verdict.INCONCLUSIVE, [], pipeline.reason
    # Kernels may all be new, so that no unit was judged; the model was, as a whole.
    is_open = verdict is Verdict.INCONCLUSIVE and reason != _NOTHING_COMPARED
    return (verdict, [], reason) if is_open else (Verdict.PASS, [], "")
