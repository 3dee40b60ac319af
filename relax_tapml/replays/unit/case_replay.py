"""How one carved case ended on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relax_tapml.arrays import Array
from relax_tapml.compare.comparison import Comparison, compare_all, worst
from relax_tapml.compare.repeat import is_failure
from relax_tapml.compare.verdict import Verdict, verdict_of
from relax_tapml.errors import DeviceFault
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.tolerances import read_tolerance


@dataclass(frozen=True, kw_only=True)
class CaseReplay:
    """How one case ended on the device.

    Parameters
    ----------
    unit, case
        Which one; ``case.site`` is the site it was recorded at.
    verdict
        ``skipped`` where there was nothing to compare.
    reason
        One sentence; empty for a pass, unless it failed in the context of other units.
    comparisons
        One for each output of the call, in order; empty where it did not run to its end.
    text
        What the device printed, for a fault.
    runs, failures
        How often it was run, and how often that failed.
    device
        The name of the device it ran on; empty where it did not run.
    context
        What had run before in the session of a failure that has not been repeated alone.
    violations
        What it did to memory that no kernel may do, a sentence each.
    unwritten
        For each output, bool of its shape: the values that were never written and should have
        been; None where all were, and empty where no output was looked at.
    precision
        Why the device computes functions less accurately than others, where only that lets the
        case pass; empty otherwise.
    """

    unit: str
    case: SuiteCase
    verdict: Verdict
    reason: str = ""
    comparisons: tuple[Comparison, ...] = ()
    text: str = ""
    runs: int = 1
    failures: int = 0
    device: str = ""
    context: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    unwritten: tuple[Array | None, ...] = ()
    precision: str = ""


def aggregate_rounds(rounds: Sequence[CaseReplay]) -> CaseReplay:
    """Return how a case ended that was run several times: ``flaky`` if only some rounds failed."""
    failed = [item for item in rounds if is_failure(item.verdict)]
    found = replace(failed[0] if failed else rounds[0], runs=len(rounds), failures=len(failed))
    if not failed:
        found = replace(found, precision=next((r.precision for r in rounds if r.precision), ""))
    if 0 < len(failed) < len(rounds):
        reason = f"fails {len(failed)} of {len(rounds)} times: {found.reason}"
        return replace(found, verdict=Verdict.FLAKY, reason=reason)
    return found


def judged(
    suite: Suite,
    unit: str,
    case: SuiteCase,
    actuals: Sequence[Array],
    violations: Sequence[str] = (),
) -> CaseReplay:
    """Compare the outputs of a call with their oracles.

    Parameters
    ----------
    suite, unit, case
        What was run.
    actuals
        Its outputs.
    violations
        What it did to memory that no kernel may do, a sentence each; any makes it a mismatch.
    """
    comparisons = _compared(suite, case, actuals)
    precision = ""
    if suite.low_precision_math is not None and any(
        item.verdict is Verdict.MISMATCH for item in comparisons
    ):
        lenient = suite.as_allowed(unit)
        if lenient is not suite:
            comparisons = _compared(lenient, case, actuals)
            precision = suite.low_precision_math.reason
    wrong = [item for item in comparisons if item.verdict is Verdict.MISMATCH]
    unjudged = [item for item in comparisons if item.verdict is Verdict.SKIPPED]
    if wrong or violations:
        reasons = [worst(wrong).reason] if wrong else []
        verdict, reason = Verdict.MISMATCH, "; ".join([*reasons, *violations])
    elif any(item.total for item in comparisons):
        verdict, reason = Verdict.PASS, ""
    elif unjudged:
        verdict, reason = Verdict.SKIPPED, unjudged[0].reason
    else:
        verdict, reason = Verdict.SKIPPED, "its outputs have no elements to compare"
    return CaseReplay(
        unit=unit,
        case=case,
        verdict=verdict,
        reason=reason,
        comparisons=comparisons,
        violations=tuple(violations),
        precision=precision if verdict is Verdict.PASS else "",
    )


def _compared(suite: Suite, case: SuiteCase, actuals: Sequence[Array]) -> tuple[Comparison, ...]:
    return tuple(
        compare_all(
            [suite.tensor(output.tensor) for output in case.outputs],
            actuals,
            [read_tolerance(suite, case, output) for output in case.outputs],
        )
    )


def faulted(unit: str, case: SuiteCase, fault: DeviceFault) -> CaseReplay:
    """Return how a case ended whose call failed."""
    return CaseReplay(
        unit=unit, case=case, verdict=verdict_of(fault), reason=str(fault), text=fault.text
    )
