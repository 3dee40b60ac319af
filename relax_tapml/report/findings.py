"""What a run found, in sentences: the same words in the terminal and on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.quantities import as_number, count_text, number_text, value_text

_NAMED_AT_MOST = 3

# Singular, plural: follows "1 of 26 units" or "3 of 26 units".
_FAULT = {
    Verdict.MISMATCH: ("is wrong", "are wrong"),
    Verdict.CRASH: ("crashes", "crash"),
    Verdict.TIMEOUT: ("does not return in time", "do not return in time"),
    Verdict.BUILD_ERROR: ("cannot be built", "cannot be built"),
    Verdict.FLAKY: ("is flaky", "are flaky"),
}


def headline(result: Mapping[str, Any]) -> str:
    """Return the verdict of the whole run as one sentence."""
    target = result.get("target", "the target")
    units = result["units"]
    culprits = [name for name in result["culprits"] if not is_pass(name)]
    passes = [name for name in result["culprits"] if is_pass(name)]
    if passes and not culprits:
        return (
            f"Units are right on {target}, but what the device's pipeline makes of the model is "
            f"not: {_names(passes)}."
        )
    if culprits:
        return (
            f"{len(culprits)} of {count_text(len(units), 'unit')} "
            f"{_fault(result)} on {target}: {_names(culprits)}."
        )
    passed = sum(unit["verdict"] == Verdict.PASS for unit in units)
    if result["verdict"] != Verdict.PASS:
        reason = result.get("reason") or (
            f"{result['verdict']}, {passed} of {count_text(len(units), 'unit')} pass and no unit "
            "is named as the culprit"
        )
        return f"Inconclusive on {target}: {_closed(reason)}"
    source = result.get("source", "the source")
    subject = (
        f"All {count_text(len(units), 'unit')}"
        if passed == len(units)
        else f"{passed} of {count_text(len(units), 'unit')}"
    )
    if not passed:
        return f"The model runs on {target} as a whole and agrees with {source} within tolerance."
    moved = sum(unit.get("on_device", unit["verdict"] == Verdict.PASS) for unit in units)
    if moved < passed:
        context = (
            f"with {moved} of them on the device the model agrees with {source}"
            if moved
            else "none has been moved"
        )
        return f"{subject} pass alone on {target}; {context}."
    return f"{subject} run on {target} and agree with {source} within tolerance."


def explain(unit: Mapping[str, Any]) -> str:
    """Return what is known about one unit that did not pass, as sentences."""
    reason = unit.get("reason") or _difference(unit)
    said = [
        _closed(reason if reason.startswith(f"{unit['name']} ") else f"{unit['name']}: {reason}")
    ]
    if as_number(unit.get("tolerance")) is not None:
        tolerance = tolerance_text(unit["tolerance"], unit.get("tolerance_origin"))
        said.append(_closed(f"T{tolerance[1:]}"))
    alone = unit.get("alone")
    together = unit.get("together") or []
    if together:
        said.append(
            "With any of them on the host the model is right: look for memory or state that they "
            "share, and for one that relies on what another should not have done."
        )
    elif unit.get("right_calls"):
        said.append("Its cases pass where it is called less often.")
    elif alone == Verdict.PASS and unit["verdict"] == Verdict.FLAKY:
        said.append("Its recorded cases alone do not show it: look for a race or stale memory.")
    elif alone == Verdict.PASS and unit["verdict"] != Verdict.PASS:
        said.append(
            "No other unit is needed for that: it meets inputs there that no carved case has, or "
            "memory that is laid out otherwise. Carve more of them with --cases-per-unit."
        )
    elif alone == unit["verdict"] and alone not in (Verdict.BUILD_ERROR, Verdict.INCONCLUSIVE):
        is_probe = "(probe: " in reason
        inputs = "inputs made for a probe" if is_probe else "recorded inputs"
        said.append(f"It fails alone too, on {inputs}.")
    return " ".join(said)


def unseen_text(unit: Mapping[str, Any]) -> str:
    """Return what no case of a unit shows, as a sentence; empty if it shows all."""
    said = []
    if unit.get("constant_inputs"):
        said.append(f"the same in all cases: {', '.join(unit['constant_inputs'])}")
    if unit.get("inexact"):
        said.append(f"no exact sums: {unit['inexact']}")
    return _closed(f"{unit['name']}: {'; '.join(said)}") if said else ""


def is_pass(culprit: str) -> bool:
    """Whether a culprit is a pass of the device's pipeline, and no unit."""
    return culprit.startswith("pass:")


def pipeline_text(result: Mapping[str, Any]) -> str:
    """Return what is known of a pipeline that changed Relax functions; empty if there is none."""
    found = result.get("pipeline")
    if not found:
        return ""
    changed = ", ".join(found["changed"])
    if found["verdict"] == Verdict.PASS:
        said = (
            f"The device's pipeline changed {changed}: the module that it returned was run as a "
            f"whole and agrees with {result.get('source', 'the source')}."
        )
    elif found["passes"]:
        said = f"pass:{', pass:'.join(found['passes'])}: {_closed(found['reason'])}"
    elif result["verdict"] == Verdict.INCONCLUSIVE and result.get("reason") == found["reason"]:
        return ""
    else:
        said = f"{found['reason'][:1].upper()}{_closed(found['reason'][1:])}"
    if found["restored"]:
        said += f" It was run with {_names(found['restored'])} as without the pipeline."
    if found["kernels"]:
        said += f" No unit stands for {_names(found['kernels'])}, which that run alone has judged."
    return said


def suspicions(devices: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each device that gave wrong answers."""
    return [
        f"Device {name} {record['suspect']}; it got no more work."
        for name, record in devices.items()
        if record["suspect"]
    ]


def open_end(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence about why a run with culprits did not come to its end, if it did not."""
    reason = result.get("reason")
    return [_closed(reason)] if result["culprits"] and reason else []


def unjudged_text(units: Sequence[str], why: str) -> str:
    """Return a sentence about units that no device was left for, empty if there are none."""
    if not units:
        return ""
    were = "was" if len(units) == 1 else "were"
    return _closed(f"{count_text(len(units), 'unit')} {were} not judged ({_names(units)}): {why}")


def agreement_text(result: Mapping[str, Any]) -> str:
    """Return whether the model says the same with what the bundle has on the device, or nothing."""
    good = [
        step
        for step in result["steps"]
        if step["verdict"] == Verdict.PASS and step.get("purpose") != "pipeline"
    ]
    found = good[-1].get("agreement") if good else None
    if not found:
        return ""
    source, total = result.get("source", "the source"), found["total"]
    if found["meaning"] == "embedding":
        cosine = found["cosine"]
        lowest = "unknown" if cosine is None else f"{min(cosine, 1.0):.9g}"
        counted = count_text(total, "embedding")
        return f"The bundle's {counted}: lowest cosine with {source} {lowest}."
    what = "greedy token" if found["meaning"] == "tokens" else "first choice"
    said = f"The bundle's {count_text(total, what)}: {found['same']} as on {source}"
    if found["ties"]:
        said += f", {found['ties']} another of a tie"
    if found["diverged"]:
        said += f", {found['diverged']} diverged"
    if found["best"] is not None:
        said += f"; five best guesses the same in {found['best']}"
    return f"{said}."


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what a reader of a good result should know: ties, and passes that did not work.

    The ties are those of the last good step, which the bundle holds.
    """
    good = [step for step in result.get("steps", ()) if step["verdict"] == Verdict.PASS]
    source = result.get("source", "the source")
    ties = [
        f"A tie {tie}. With the choices of {source} imposed there the outputs agree."
        for tie in (good[-1].get("ties", ()) if good else ())
    ]
    failed = [note[:1].upper() + note[1:] for note in result.get("lowering_notes") or ()]
    return [*ties, *map(_closed, failed)]


def tolerance_text(tolerance: float | str | None, origin: str | None = None) -> str:
    """Return a tolerance and where it comes from: ``tolerance 3.1e-06: values must be equal``."""
    text = f"tolerance {number_text(tolerance)}"
    return f"{text}: {origin}" if origin else text


def verdict_text(unit: Mapping[str, Any]) -> str:
    """Return a unit's verdict in a word, ``flaky(3/10)`` with its failures and runs."""
    if unit["verdict"] == Verdict.FLAKY and unit.get("runs"):
        return f"{unit['verdict']}({unit.get('failures', 0)}/{unit['runs']})"
    if unit["verdict"] == Verdict.PASS and unit.get("precision") == "low":
        return f"{unit['verdict']}, low precision"
    return str(unit["verdict"])


def precision_text(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each reason why units pass with low precision."""
    reasons: dict[str, list[str]] = {}
    for unit in units:
        if unit["verdict"] == Verdict.PASS and unit.get("precision") == "low":
            reason = unit.get("precision_reason") or "no reason is known"
            reasons.setdefault(reason, []).append(unit["name"])
    return [
        f"{count_text(len(names), 'unit')} of low precision ({_names(names)}): {_closed(reason)}"
        for reason, names in reasons.items()
    ]


def moved_text(step: Mapping[str, Any]) -> str:
    """Return what a step had on the device that the last good one had not, and why."""
    if step.get("purpose") == "pipeline":
        return "the whole module, as the device's pipeline returned it"
    moved = step.get("moved") or ([step["unit"]] if step.get("unit") else [])
    if not moved:
        return "-"
    text = moved[0] if len(moved) == 1 else f"{moved[0]} to {moved[-1]} ({len(moved)})"
    if step.get("purpose") == "reduce":
        kept = len(step["boundary"]) - len(moved)
        return f"{text} {f'with {kept} others' if kept else 'alone'}"
    return text


def _difference(unit: Mapping[str, Any]) -> str:
    """Return what the numbers say of a unit that comes without a reason."""
    said = str(unit["verdict"])
    if as_number(unit.get("error")) is not None:
        said += f", error {number_text(unit['error'])}"
    first = unit.get("first")
    if first:
        said += (
            f", first at {first['index']}: expected {value_text(first['expected'])}, "
            f"got {value_text(first['actual'])}"
        )
    return said


def _fault(result: Mapping[str, Any]) -> str:
    culprits = {name for name in result["culprits"] if not is_pass(name)}
    kinds = Counter(unit["verdict"] for unit in result["units"] if unit["name"] in culprits)
    plural = len(culprits) > 1
    if len(kinds) == 1:
        (kind,) = kinds
        if kind in _FAULT:
            return _FAULT[kind][plural]
    fail = "fail" if plural else "fails"
    return f"{fail} ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})"


def _names(names: Sequence[str]) -> str:
    if len(names) <= _NAMED_AT_MOST:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED_AT_MOST])} and {len(names) - _NAMED_AT_MOST} more"


def _closed(sentence: str) -> str:
    sentence = sentence.rstrip()  # A line of code may be quoted last.
    return sentence if sentence.endswith((".", "!", "?", ";")) else f"{sentence}."
