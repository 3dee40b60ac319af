"""What a run found: the document of ``result.json``."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relax_tapml.compare.comparison import Comparison
from relax_tapml.compare.power import power_document
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.files.replace import write_file
from relax_tapml.migrate.in_context import InContext
from relax_tapml.partition.site_table import SiteEntry
from relax_tapml.passes.origin import unit_text
from relax_tapml.replay.unit.unit_replay import UnitReplay
from relax_tapml.results.json_number import json_number
from relax_tapml.suite.composite_units import explained
from relax_tapml.suite.manifest import SuiteUnit

SCHEMA = 1
_NAMED_AT_MOST = 3
INCONCLUSIVE = "inconclusive"
_GRAVEST_FIRST = (
    *(Verdict.CRASH, Verdict.TIMEOUT, Verdict.MISMATCH, Verdict.FLAKY),
    Verdict.BUILD_ERROR,
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of a run.

    Parameters
    ----------
    out
        The output folder.
    document
        What ``result.json`` holds.
    """

    out: Path
    document: dict[str, Any]

    @property
    def verdict(self) -> str:
        """``pass``, the gravest verdict of the culprits, or ``inconclusive``."""
        return str(self.document["verdict"])

    @property
    def culprits(self) -> list[str]:
        """Names of the units that are wrong on the target."""
        return list(self.document["culprits"])

    @property
    def exit_code(self) -> ExitCode:
        """0 pass, 1 culprits found, 3 inconclusive."""
        if self.culprits:
            return ExitCode.MISMATCH
        return ExitCode.PASS if self.verdict == Verdict.PASS else ExitCode.INCONCLUSIVE


def unit_summary(detail: UnitReplay) -> dict[str, Any]:
    """Return what a unit's replay alone showed, as it is kept and reported."""
    decisive = detail.worst
    return {
        "verdict": str(detail.verdict),
        "reason": detail.reason,
        "runs": detail.runs,
        "failures": detail.failures,
        "device": detail.device,
        "precision": "low" if detail.precision else None,
        "precision_reason": detail.precision,
        "error": None if decisive is None else json_number(decisive.error),
        "tolerance": None if decisive is None else allowed_number(decisive),
        "tolerance_origin": None if decisive is None else decisive.tolerance.origin,
        "metrics": None if decisive is None else metrics_document(decisive),
        "case": detail.decisive_case or None,
        "cases": sum(not item.case.is_probe for item in detail.cases),
        "probes": sum(item.case.is_probe for item in detail.cases),
        "first": _first(decisive),
        "power": power_documents(detail),
        "blunt": list(detail.blunt),
    }


def unseen_document(unit: SuiteUnit) -> dict[str, Any]:
    """Return what no case of a unit shows: inputs that never varied, and terms of its sums."""
    return {"constant_inputs": list(unit.constant_inputs), "inexact": unit.inexact}


def power_documents(detail: UnitReplay) -> list[dict[str, Any]]:
    """Return what the tolerances of a unit's cases see, for each output that passes."""
    return [
        {
            "case": case.case.name,
            "probe": case.case.is_probe,
            "output": output,
            **power_document(item.power),
            "blunt": not item.is_sharp,
        }
        for case in detail.cases
        for output, item in enumerate(case.comparisons)
        if not item.is_empty and item.verdict is not Verdict.MISMATCH
    ]


def allowed_number(comparison: Comparison) -> float | int | bool | str | None:
    """Return what the value that ``error`` is about is allowed, None where there is no value."""
    return None if math.isnan(comparison.allowed) else json_number(comparison.allowed)


def metrics_document(comparison: Comparison) -> dict[str, Any]:
    """Return all metrics of a comparison; null where one has no value."""
    return {
        "values": comparison.total,
        "unjudged": comparison.unjudged,
        "mismatches": comparison.mismatches,
        "ties": comparison.ties,
        "max_abs": json_number(comparison.max_abs),
        "max_rel": json_number(comparison.max_rel),
        "max_ulp": comparison.max_ulp,
        "rmse": json_number(comparison.rmse),
        "cosine": json_number(comparison.cosine),
        "snr_db": json_number(comparison.snr_db),
        "nonfinite": asdict(comparison.nonfinite),
        "saturation": asdict(comparison.saturation),
    }


def _first(decisive: Comparison | None) -> dict[str, Any] | None:
    if decisive is None or decisive.first_index is None:
        return None
    return {
        "index": list(decisive.first_index),
        "expected": json_number(decisive.first_expected),
        "actual": json_number(decisive.first_actual),
        "ulp": decisive.first_ulp,
    }


def unit_document(
    name: str,
    alone: Mapping[str, Any],
    context: InContext | None,
    *,
    sites: Sequence[SiteEntry],
    seen_once: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Join what a unit did alone with what it did in company, if it was to be moved.

    ``seen_once`` are its symbolic dimensions that had one value only, as in the manifest.
    """
    document = {
        "name": name,
        **alone,
        "sites": len(sites),
        "origin": unit_text(entry.origins for entry in sites),
        "origins": {entry.site.id: [o.text for o in entry.origins] for entry in sites},
        "alone": alone["verdict"],
        "dims_seen_once": list(seen_once),
    }
    document.update(on_device=context is not None and context.on_device, together=[])
    if context is not None and context.verdict is not None:
        document.update(
            verdict=str(context.verdict),
            reason=context.reason,
            error=json_number(context.error),
            runs=context.runs,
            failures=context.failures,
            tolerance=None,
            tolerance_origin=None,
            metrics=None,
            first=None,
            together=list(context.together),
            right_calls=context.right_calls,
        )
    return document


def without_explained(
    units: Sequence[dict[str, Any]], runs: Mapping[str, Collection[str]]
) -> list[dict[str, Any]]:
    """Return the units, those skipped that run the kernel of another one that is wrong itself.

    Parameters
    ----------
    units
        Of ``unit_document``: the last word on each, so that what the migration alone has found
        counts as well.
    runs
        Of ``units_run``.
    """
    reasons = explained({u["name"]: Verdict(u["verdict"]) for u in units}, runs)
    return [
        {**u, "verdict": str(Verdict.SKIPPED), "reason": reasons[u["name"]], "together": []}
        if u["name"] in reasons
        else u
        for u in units
    ]


def overall_verdict(units: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """Return the verdict of a run and its culprits; nothing compared, or disputed, is no pass."""
    culprits = [u["name"] for u in units if u["verdict"] in _GRAVEST_FIRST]
    if culprits:
        found = {u["verdict"] for u in units}
        return next(str(v) for v in _GRAVEST_FIRST if v in found), culprits
    verdicts = {u["verdict"] for u in units}
    if Verdict.PASS in verdicts and Verdict.INCONCLUSIVE not in verdicts:
        return str(Verdict.PASS), []
    return INCONCLUSIVE, []


def inconclusive_reason(units: Sequence[Mapping[str, Any]]) -> str:
    """Say why a run without culprits does not pass."""
    open_units = [u for u in units if u["verdict"] == Verdict.INCONCLUSIVE]
    blunt = [u["name"] for u in open_units if u.get("blunt")]
    disputed = [u["name"] for u in open_units if not u.get("blunt")]
    told = []
    if blunt:
        named = ", ".join(blunt[:_NAMED_AT_MOST])
        more = len(blunt) - _NAMED_AT_MOST
        told.append(
            f"{len(blunt)} of {len(units)} units {'has' if len(blunt) == 1 else 'have'} an output "
            "that only blunt tolerances judge, which a grossly wrong result would pass too "
            f"({named}{f' and {more} more' if more > 0 else ''})"
        )
    if disputed:
        told.append(f"devices disagree about {', '.join(disputed)}")
    if told:
        return "; ".join(told)
    return "no unit was compared on the target"


def write_result(folder: Path, document: dict[str, Any]) -> Result:
    """Write ``result.json``, strict JSON, with schema and versions added."""
    document = {"schema": SCHEMA, **document, "versions": _versions()}
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_file(folder / "result.json", text)
    return Result(out=folder, document=document)


def _versions() -> dict[str, str]:
    names = ("relax-tapml", "apache-tvm", "apache-tvm-ffi", "numpy", "safetensors")
    found = {name: importlib.metadata.version(name) for name in names}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}
