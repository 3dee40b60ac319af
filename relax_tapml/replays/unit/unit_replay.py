"""How a unit ends that is replayed alone: all of its cases, one verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relax_tapml.compare.comparison import Comparison, worst
from relax_tapml.compare.verdict import WITHOUT_RESULT, Verdict
from relax_tapml.replays.unit.case_replay import CaseReplay
from relax_tapml.replays.unit.replayer import Replayer


@dataclass(frozen=True, kw_only=True)
class UnitReplay:
    """How one unit ended.

    Parameters
    ----------
    unit
        Its name.
    verdict
        The most severe of its cases; ``skipped`` where nothing was compared, and where it runs the
        kernel of another unit of the suite that is wrong itself; ``inconclusive`` where all cases
        pass and none could have failed, see ``check_power``.
    reason
        One sentence; empty for a pass.
    cases
        Its cases, in order; after a crash or a timeout the remaining ones are ``skipped``.
    runs, failures
        How often the decisive case was run, and how often that failed.
    device
        The name of the device that decided; empty where nothing was to be run.
    context
        What had run before in the session of the decisive failure, where that has not been run
        again alone.
    blunt
        The outputs that no case judges sharply, if it is ``inconclusive`` for that.
    decisive_case
        Name of the case that its verdict is that of; empty where it has no case.
    precision
        Why the device computes functions less accurately than others, where only that lets the
        unit pass; empty otherwise.
    """

    unit: str
    verdict: Verdict
    reason: str
    cases: tuple[CaseReplay, ...] = ()
    runs: int = 1
    failures: int = 0
    device: str = ""
    context: tuple[str, ...] = ()
    blunt: tuple[int, ...] = ()
    decisive_case: str = ""
    precision: str = ""

    @property
    def worst(self) -> Comparison | None:
        """The comparison that decided, with error and tolerance; None if nothing was compared.

        Of a unit that fails it is one of the case that decided, so that the numbers are about the
        values that the reason names.
        """
        comparisons = [
            item
            for case in self.cases
            if not self.verdict.is_wrong or case.case.name == self.decisive_case
            for item in case.comparisons
        ]
        return worst(comparisons) if comparisons else None


def replay_unit(replayer: Replayer, unit: str, repeat: int) -> UnitReplay:
    """Run the cases of a unit, until one ends with a fault or is left to another device.

    Raises
    ------
    DeviceUnavailable
        No session could be opened.
    StoreError
        A file of the suite cannot be read.
    """
    ended: list[CaseReplay] = []
    for case in replayer.suite.manifest.units[unit].cases:
        fault = next(
            (item for item in ended if item.verdict in WITHOUT_RESULT or item.context), None
        )
        if fault is None:
            ended.append(replayer.run(unit, case, repeat=repeat))
        else:
            reason = f"not run: {fault.case.name} ended with {fault.verdict}"
            ended.append(
                CaseReplay(unit=unit, case=case, verdict=Verdict.SKIPPED, reason=reason, runs=0)
            )
    return unit_replay(unit, ended)


def unit_replay(unit: str, ended: Sequence[CaseReplay]) -> UnitReplay:
    """Return how a unit ended of which one or more cases have been run."""
    decisive = min(ended, key=lambda item: (item.verdict.severity, -item.failures))
    reason = decisive.reason
    if decisive.case.is_probe and reason:
        reason = f"{reason} ({decisive.case.reason})"
    return UnitReplay(
        unit=unit,
        verdict=decisive.verdict,
        reason=reason,
        cases=tuple(ended),
        runs=decisive.runs,
        failures=decisive.failures,
        device=decisive.device,
        context=decisive.context,
        decisive_case=decisive.case.name,
        precision=""
        if decisive.verdict is not Verdict.PASS
        else next((item.precision for item in ended if item.precision), ""),
    )
