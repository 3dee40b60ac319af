"""What a migration finds out about a unit that passes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relax_tapml.compare.verdict import Verdict
from relax_tapml.migrate.move_groups import MoveGroup
from relax_tapml.migrate.strategies.strategy import Finding
from relax_tapml.results.step_result import StepResult
from relax_tapml.results.unit_result import UnitResult


@dataclass(frozen=True, kw_only=True)
class InContext:
    """How a unit does on the device together with others.

    Parameters
    ----------
    on_device
        Whether all of it that may move is on the device in the last good step.
    verdict, reason, error
        Why it, or a site of it, is not; None and empty where nothing is known against it.
    runs, failures
        How often the failure was looked for, and how often it was met.
    together
        Units it fails with: any of them less, and the model is right.
    right_calls
        How many calls in one session are right before it fails, alone; None if that is not why.
    """

    on_device: bool
    verdict: Verdict | None = None
    reason: str = ""
    error: float | None = None
    runs: int = 0
    failures: int = 0
    together: tuple[str, ...] = ()
    right_calls: int | None = None


def contexts(
    groups: Mapping[str, MoveGroup],
    accepted: frozenset[str],
    findings: Sequence[Finding],
    steps: Sequence[StepResult],
) -> dict[str, InContext]:
    """Return how each unit does that was to be moved.

    Parameters
    ----------
    groups
        Everything that was to be moved, by name.
    accepted
        Those on the device in the last good step.
    findings
        Of the strategy.
    steps
        The steps it made.
    """
    by_unit: dict[str, list[str]] = {}
    for group in groups.values():
        by_unit.setdefault(group.unit, []).append(group.name)
    found = {
        unit: InContext(on_device=accepted.issuperset(names)) for unit, names in by_unit.items()
    }
    # The first finding about a unit is the one that is reported.
    for finding in reversed(findings):
        step = steps[finding.step]
        failures, runs = step.flaky.get(finding.part, (step.failures, step.runs))
        exhausting = step.exhausting.get(finding.part)
        if exhausting is not None:
            unit = groups[finding.part].unit
            found[unit] = InContext(
                on_device=found[unit].on_device,
                verdict=exhausting.verdict,
                reason=exhausting.text,
                runs=exhausting.calls,
                failures=1,
                right_calls=exhausting.calls - 1,
            )
            continue
        others = finding.together if finding.is_complete else ()
        failing = (finding.part, *others)
        units = tuple(dict.fromkeys(groups[name].unit for name in failing))
        for unit in units:
            found[unit] = InContext(
                on_device=found[unit].on_device,
                verdict=Verdict.FLAKY if finding.is_flaky else step.verdict,
                reason=_reason(finding, step, groups, unit),
                error=step.error,
                runs=runs,
                failures=failures,
                together=tuple(other for other in units if other != unit),
            )
    return found


def _reason(finding: Finding, step: StepResult, groups: Mapping[str, MoveGroup], unit: str) -> str:
    group = groups[finding.part]
    what = "it" if group.name == group.unit else f"its site {group.name}"
    if finding.is_flaky and finding.part in step.flaky:
        failures, runs = step.flaky[finding.part]
        return f"fails {failures} of {runs} times alone, and so did the model: {step.reason}"
    if finding.is_flaky or not finding.together:
        return f"passes alone, but with {what} on the device the model fails {step.reason}"
    together = ", ".join(finding.together)
    if not finding.is_complete:
        return (
            f"passes alone, but with {what} and at least {len(finding.together)} others on the "
            f"device ({together}, ...) the model fails {step.reason}"
        )
    if unit != group.unit:
        others = [name for name in (finding.part, *finding.together) if groups[name].unit != unit]
        return (
            f"passes alone, but with it and {', '.join(others)} together on the device the model "
            f"fails {step.reason}"
        )
    return (
        f"passes alone, but with {what} and {together} together on the device the model fails "
        f"{step.reason}"
    )


def in_context(unit: UnitResult, context: InContext | None) -> UnitResult:
    """Return the last word on a unit: what the migration found, or else what it did alone.

    Parameters
    ----------
    unit
        How it did alone.
    context
        None if it was not to be moved.
    """
    unit = replace(unit, alone=unit.verdict, on_device=context is not None and context.on_device)
    if context is None or context.verdict is None:
        return unit
    return replace(
        unit,
        verdict=context.verdict,
        reason=context.reason,
        error=context.error,
        runs=context.runs,
        failures=context.failures,
        tolerance=None,
        tolerance_origin=None,
        metrics=None,
        first=None,
        error_map=None,
        together=context.together,
        right_calls=context.right_calls,
    )
