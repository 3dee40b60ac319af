"""What a run found, in sentences: the same words in the terminal and on the page."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Meaning
from relax_tapml.printable import names_text
from relax_tapml.report.quantities import call_text, count_text, number_text, value_text
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.import_result import WrongNode
from relax_tapml.results.run_result import RunResult
from relax_tapml.results.step_result import Purpose, StepResult
from relax_tapml.results.unit_result import UnitOutcome, UnitResult

# Singular, plural: follows "1 of 26 units" or "3 of 26 units".
_FAULT = {
    Verdict.MISMATCH: ("is wrong", "are wrong"),
    Verdict.CRASH: ("crashes", "crash"),
    Verdict.TIMEOUT: ("does not return in time", "do not return in time"),
    Verdict.BUILD_ERROR: ("cannot be built", "cannot be built"),
    Verdict.FLAKY: ("is flaky", "are flaky"),
}


def headline(result: RunResult) -> str:
    """Return the verdict of the whole run as one sentence."""
    target, source = result.target, result.source
    total = count_text(len(result.units), "unit")
    culprits = [name for name in result.culprits if not is_pass(name)]
    if culprits:
        return f"{len(culprits)} of {total} {_fault(result)} on {target}: {names_text(culprits)}."
    if result.culprits:
        return (
            f"No unit is wrong on {target}, but the device's pipeline is: "
            f"{names_text(result.culprits)}."
        )
    passed = sum(unit.verdict is Verdict.PASS for unit in result.units)
    is_one = passed == 1
    if result.verdict is not Verdict.PASS:
        reason = result.reason or (
            f"{result.verdict}, {passed} of {total} {'passes' if is_one else 'pass'} and no unit "
            "is named as culprit"
        )
        return f"Inconclusive on {target}: {closed(reason)}"
    if not passed:
        return f"The model runs on {target} as a whole and agrees with {source} within tolerance."
    subject = f"{passed} of {total}"
    if passed == len(result.units):
        subject = "The only unit" if is_one else f"All {total}"
    moved = sum(_is_on_device(unit) for unit in result.units)
    if moved < passed:
        context = (
            f"with {moved} of them on the device the model agrees with {source}"
            if moved
            else f"{'it has not' if is_one else 'none has'} been moved"
        )
        return f"{subject} {'passes' if is_one else 'pass'} alone on {target}; {context}."
    runs, agrees = ("runs", "agrees") if is_one else ("run", "agree")
    return f"{subject} {runs} on {target} and {agrees} with {source} within tolerance."


def explain(unit: UnitResult) -> str:
    """Return the findings about one unit that did not pass, as sentences."""
    reason = unit.reason or _difference(unit)
    sentences = [closed(reason if reason.startswith(f"{unit.name} ") else f"{unit.name}: {reason}")]
    if unit.target_kernel:
        sentences.append(f"The target's own kernel was run, which is {unit.target_kernel} there.")
    if unit.tolerance is not None:
        tolerance = tolerance_text(unit.tolerance, unit.tolerance_origin)
        if unit.reason and unit.error is not None and math.isfinite(unit.error):
            # Not the largest error, but the one that exceeds its tolerance most.
            tolerance = (
                f"the value furthest beyond is off by {number_text(unit.error)}, {tolerance}"
            )
        sentences.append(capitalized(closed(tolerance)))
    if unit.together:
        sentences.append(
            "With any of them on the host the model is right: look for memory or state that they "
            "share, and for one that depends on what another must not change."
        )
    elif unit.right_calls:
        sentences.append("Its cases pass alone because they call it less often.")
    elif unit.is_in_context_only and unit.verdict is Verdict.FLAKY:
        sentences.append("Its recorded cases pass alone: look for a race or stale memory.")
    elif unit.is_in_context_only:
        sentences.append(
            "No other unit is needed for that: in the model it gets inputs that no carved case "
            "has, or memory with another layout. Carve more cases with --cases-per-unit."
        )
    elif unit.alone == unit.verdict != Verdict.BUILD_ERROR and unit.verdict.is_wrong:
        inputs = "inputs made for a probe" if "(probe: " in reason else "recorded inputs"
        sentences.append(f"It fails alone too, on {inputs}.")
    return " ".join([*sentences, *_repair_sentences(unit)])


def _repair_sentences(unit: UnitResult) -> list[str]:
    """Return where the fault of a unit is, and how it does with another kernel."""
    sentences = []
    if unit.blame is not None:
        sentences.append(closed(f"Fault: {unit.blame.layer}: {unit.blame.text}"))
    repair = unit.repair
    if repair is None:
        return sentences
    if not repair.chosen:
        if unit.blame is None and repair.tried == ():
            return sentences
        return [*sentences, "No repair was found."]
    if repair.verdict is not Verdict.PASS:
        return [*sentences, closed(f"Not repaired by {repair.chosen}: {repair.reason}")]
    speed = call_text(repair.call_s, repair.own_call_s)
    return [*sentences, closed(f"Repaired by {repair.chosen}{f' ({speed})' if speed else ''}")]


def repair_text(result: RunResult, out: Path) -> str:
    """Return how the model does with other kernels for the units that failed; empty without.

    Parameters
    ----------
    result
        Of the run.
    out
        Its folder, as options shall name it.
    """
    repair = result.repair
    if repair is None:
        return ""
    if not repair.pipeline:
        return "" if repair.reason in ("", result.reason) else closed(capitalized(repair.reason))
    total = count_text(len(result.units), "unit")
    passing = f"{repair.repaired_passed} of {total} pass on {result.target}"
    own = f"{result.device_pipeline}," if result.device_pipeline else ""
    option = shlex.quote(f"{own}{out / repair.pipeline}")
    applied = f"Any build gets them by --device-pipeline {option}."
    if not repair.steps:
        if repair.verdict is Verdict.INCONCLUSIVE and repair.reason:
            return f"{closed(capitalized(repair.reason))} {applied}"
        alone = f"With the repairs {passing} (without: {repair.units_passed}); none was moved."
        return f"{alone} {applied}"
    moved = (
        f"With the repairs {passing} and {repair.repaired_on_device} run there "
        f"(without: {repair.units_passed} and {repair.units_on_device})"
    )
    if repair.verdict is Verdict.PASS:
        return f"{moved}, and the model agrees with {result.source}. {applied}"
    why = repair.reason or f"wrong are {names_text(repair.culprits)}"
    return f"{moved}; the model does not pass: {closed(why)} {applied}"


def untested_text(unit: UnitResult) -> str:
    """Return what the cases of a unit do not test, as a sentence; empty if they test all."""
    parts = []
    if unit.constant_inputs:
        parts.append(f"the same in all cases: {', '.join(unit.constant_inputs)}")
    if unit.inexact:
        parts.append(f"sums not tested term by term: {unit.inexact}")
    return closed(f"{unit.name}: {'; '.join(parts)}") if parts else ""


def is_pass(culprit: str) -> bool:
    """Whether a culprit is a pass of the device's pipeline, and no unit."""
    return culprit.startswith("pass:")


def pipeline_text(result: RunResult) -> str:
    """Return the findings about a pipeline that changed Relax functions; empty without one."""
    found = result.pipeline
    if found is None:
        return ""
    if found.verdict is Verdict.PASS:
        text = (
            f"The device's pipeline changed {', '.join(found.changed)}: the module that it "
            f"returned was run as a whole and agrees with {result.source}."
        )
    elif found.passes:
        text = f"{', '.join(found.culprits)}: {closed(found.reason)}"
    elif result.verdict is Verdict.INCONCLUSIVE and result.reason == found.reason:
        return ""
    else:
        text = capitalized(closed(found.reason))
    if found.restored:
        were = "was" if len(found.restored) == 1 else "were"
        text += f" For that run {names_text(found.restored)} {were} built without the pipeline."
    if found.kernels:
        text += f" Only that run tests {names_text(found.kernels)}, which no unit contains."
    return text


def cache_text(result: RunResult) -> str:
    """Return what was found with a model's KV cache on the device; empty for one without."""
    found = result.cache
    if found is None:
        return ""
    if found.verdict is Verdict.PASS:
        return f"With its {found.what} on the device, too, the model agrees with {result.source}."
    return "" if found.reason == result.reason else capitalized(closed(found.reason))


def suspicions(devices: Mapping[str, DeviceResult]) -> list[str]:
    """Return a sentence for each device whose results are not trusted."""
    return [
        f"Device {name} {device.suspect}; it got no more work."
        for name, device in devices.items()
        if device.suspect
    ]


def reasons(units: Iterable[UnitOutcome]) -> list[str]:
    """Return verdict and reason of each unit, those that are the same on one line."""
    names: dict[str, list[str]] = {}
    for unit in units:
        names.setdefault(f"{unit.verdict}: {unit.reason}", []).append(unit.name)
    return [f"{', '.join(units)}: {text}" for text, units in names.items()]


def open_end(result: RunResult) -> list[str]:
    """Return a sentence about why a run with culprits did not come to its end, if it did not."""
    return [closed(result.reason)] if result.culprits and result.reason else []


def unjudged_text(units: Sequence[str], why: str) -> str:
    """Return a sentence about units that no device was left for, empty if there are none."""
    if not units:
        return ""
    were = "was" if len(units) == 1 else "were"
    counted = count_text(len(units), "unit")
    return closed(f"{counted} {were} not judged ({names_text(units)}): {why}")


def agreement_text(result: RunResult) -> str:
    """Return how the answers of the model compare with what the bundle has on the device."""
    repaired = () if result.repair is None else result.repair.steps
    good = [
        step
        for step in (*result.steps, *repaired)
        if step.verdict is Verdict.PASS and step.purpose not in (Purpose.PIPELINE, Purpose.CACHE)
    ]
    found = good[-1].agreement if good else None
    if found is None:
        return ""
    if found.meaning is Meaning.EMBEDDING:
        lowest = "unknown" if found.cosine is None else f"{min(found.cosine, 1.0):.9g}"
        counted = count_text(found.total, "embedding")
        return f"The bundle's {counted}: lowest cosine with {result.source} {lowest}."
    what = "greedy token" if found.meaning is Meaning.TOKENS else "first choice"
    text = f"The bundle's {count_text(found.total, what)}: {found.same} as on {result.source}"
    if found.ties:
        text += f", {found.ties} another of a tie"
    if found.diverged:
        text += f", {found.diverged} diverged"
    if found.best is not None:
        text += f"; five best guesses the same in {found.best}"
    return f"{text}."


def notes(result: RunResult) -> list[str]:
    """Return what a reader of a good result should know: ties, failed passes, the search.

    The ties are those of the last good step, which the bundle holds.
    """
    good = [step for step in result.steps if step.verdict is Verdict.PASS]
    ties = [
        f"A tie {tie}. With the choices of {result.source} imposed there the outputs agree."
        for tie in (good[-1].ties if good else ())
    ]
    searched = []
    if result.strategy_reason and result.strategy != "linear":
        searched.append(closed(f"Moved by {result.strategy}: {result.strategy_reason}"))
    return [*ties, *(capitalized(closed(note)) for note in result.lowering_notes), *searched]


def import_text(result: RunResult) -> list[str]:
    """Return what makes the source differ from the framework: a sentence for each wrong node."""
    finding = None if result.import_ is None else result.import_.finding
    if finding is None:
        return []
    if not finding.nodes:
        return [closed(capitalized(finding.text))]
    return [_wrong_node_text(node) for node in finding.nodes]


def _wrong_node_text(node: WrongNode) -> str:
    where = f" in {node.module}" if node.module else ""
    line = f", {node.source}" if node.source else ""
    alike = f" So are {names_text(node.alike)}." if node.alike else ""
    value = ""
    if node.worst is not None:
        at = f" at {list(node.worst.index)}" if node.worst.index else ""
        value = (
            f" Farthest off{at}: expected {number_text(node.worst.expected)}, got "
            f"{number_text(node.worst.got)}, allowed {number_text(node.tolerance)}."
        )
    return (
        f"{node.operator} is imported wrongly: node {node.node}{where}{line}: {closed(node.reason)}"
        f"{value}{alike}"
    )


def skipped_by_reason(result: RunResult) -> list[tuple[str, list[str]]]:
    """Return each reason why sites were skipped, with these sites; what skips most comes first."""
    sites: dict[str, list[str]] = {}
    for skip in result.skipped:
        sites.setdefault(skip.reason, []).append(skip.site)
    return sorted(sites.items(), key=lambda pair: -len(pair[1]))


def tolerance_text(tolerance: float | None, origin: str | None = None) -> str:
    """Return a tolerance and where it comes from: ``tolerance 3.1e-06: values must be equal``."""
    text = f"tolerance {number_text(tolerance)}"
    return f"{text}: {origin}" if origin else text


def verdict_text(unit: UnitResult) -> str:
    """Return a unit's verdict in a word, ``flaky(3/10)`` with its failures and runs."""
    if unit.verdict is Verdict.FLAKY and unit.runs:
        return f"{unit.verdict}({unit.failures}/{unit.runs})"
    if unit.is_low_precision:
        return f"{unit.verdict}, low precision"
    return str(unit.verdict)


def precision_text(units: Iterable[UnitResult]) -> list[str]:
    """Return a sentence for each reason why units pass with low precision."""
    reasons: dict[str, list[str]] = {}
    for unit in units:
        if unit.is_low_precision:
            reason = unit.precision_reason or "no reason is recorded"
            reasons.setdefault(reason, []).append(unit.name)
    return [
        f"{count_text(len(names), 'unit')} of low precision ({names_text(names)}): {closed(reason)}"
        for reason, names in reasons.items()
    ]


def moved_text(step: StepResult) -> str:
    """Return what a step had on the device that the last good one had not, and why."""
    if step.purpose is Purpose.PIPELINE:
        return "the whole module, as the device's pipeline returned it"
    if step.purpose is Purpose.CACHE:
        return "the whole module, with its KV cache or state on the device"
    moved = step.moved or ((step.unit,) if step.unit else ())
    if not moved:
        return "-"
    text = moved[0] if len(moved) == 1 else f"{moved[0]} to {moved[-1]} ({len(moved)})"
    if step.purpose is Purpose.REDUCE:
        others = len(step.boundary) - len(moved)
        return f"{text} with {count_text(others, 'other')}" if others else f"{text} alone"
    return text


def closed(sentence: str) -> str:
    """Return a sentence with a full stop at its end."""
    sentence = sentence.rstrip()  # A line of code may be quoted last.
    return sentence if sentence.endswith((".", "!", "?", ";")) else f"{sentence}."


def capitalized(sentence: str) -> str:
    """Return a sentence with a capital letter at its start."""
    return sentence[:1].upper() + sentence[1:]


def _is_on_device(unit: UnitResult) -> bool:
    return unit.verdict is Verdict.PASS if unit.on_device is None else unit.on_device


def _difference(unit: UnitResult) -> str:
    """Return the numbers of a unit that comes without a reason."""
    text = str(unit.verdict)
    if unit.error is not None:
        text += f", error {number_text(unit.error)}"
    if unit.first is not None:
        text += (
            f", first at {list(unit.first.index)}: expected {value_text(unit.first.expected)}, "
            f"got {value_text(unit.first.actual)}"
        )
    return text


def _fault(result: RunResult) -> str:
    culprits = {name for name in result.culprits if not is_pass(name)}
    kinds = Counter(unit.verdict for unit in result.units if unit.name in culprits)
    plural = len(culprits) > 1
    if len(kinds) == 1:
        (kind,) = kinds
        if kind in _FAULT:
            return _FAULT[kind][plural]
    fail = "fail" if plural else "fails"
    return f"{fail} ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})"
