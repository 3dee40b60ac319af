"""Join what the stages found into the result of a run."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_tapml.bringup._capture_notes import CaptureNotes, why_left_out
from relax_tapml.bringup._import_check import import_distance, import_result
from relax_tapml.bringup.alone import Alone
from relax_tapml.bringup.conclusion import conclusion
from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.migrate_model import Migrated
from relax_tapml.bringup.options import Options
from relax_tapml.bringup.repair_stage import Repaired
from relax_tapml.bringup.trusted_source import Trusted
from relax_tapml.capture.store import CaptureStore
from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.migrate.in_context import in_context
from relax_tapml.migrate.strategies.registry import LINEAR
from relax_tapml.partition.site_table import SiteEntry
from relax_tapml.partition.target_kernels import SAME, TargetKernels
from relax_tapml.passes.notes import Note
from relax_tapml.passes.origin import unit_text
from relax_tapml.passes.site import Site
from relax_tapml.results.cache_result import CacheResult
from relax_tapml.results.repair_result import RepairedRun, RepairResult
from relax_tapml.results.run_result import (
    CaptureResult,
    DiskBytes,
    Estimate,
    ModelResult,
    RunResult,
    SkippedSite,
    StageSeconds,
    UnjudgedUnit,
)
from relax_tapml.results.unit_result import DimResult, UnitResult, culprits
from relax_tapml.suite.composite_units import caused_by_kernels, units_run
from relax_tapml.suite.open_suite import Suite
from relax_tapml.system import peak_bytes
from relax_tapml.versions import versions

REPAIRS_PIPELINE = "repairs:pipeline"
"""What applies the repairs of a run, in its output folder."""


@dataclasses.dataclass(kw_only=True)
class Findings:
    """What the stages of a run have found so far; None for a stage that did not come to its end.

    Parameters
    ----------
    model, lowered
        What was run.
    kernels
        Those that the model has for the target.
    estimate
        What the stages were expected to take.
    trusted, store, suite, alone, migrated, repaired
        Of the stages of these names; no unit was repaired where none failed.
    """

    model: Model
    lowered: Lowered
    kernels: TargetKernels = SAME
    estimate: Estimate | None = None
    trusted: Trusted | None = None
    store: CaptureStore | None = None
    suite: Suite | None = None
    alone: Alone | None = None
    migrated: Migrated | None = None
    repaired: Repaired | None = None


def failing_units(found: Findings) -> list[str]:
    """Return the units that are wrong on the target, if the migration came to its end."""
    migrated, alone = found.migrated, found.alone
    if migrated is None or migrated.lost or migrated.source_error is not None:
        return []
    return [] if alone is None or alone.lost else culprits(_units(found))


def summarise(
    found: Findings,
    options: Options,
    seconds: StageSeconds,
    out: Path = Path(),
    failure: str = "",
) -> RunResult:
    """Return the result of a run: the last word on each unit, and one verdict.

    Parameters
    ----------
    found
        What the stages have found.
    options
        Of the run.
    seconds
        What each stage took.
    out
        The output folder.
    failure
        Why the run did not come to its end, where that was before the replay.
    """
    units = _units(found)
    migrated = found.migrated or Migrated()
    verdict, names, reason = conclusion(units, migrated, found.alone, failure)
    repair = None
    if found.repaired is not None:
        units, repair = with_repairs(units, verdict, reason, found, found.repaired)
    steps = (*migrated.steps, migrated.pipeline_step, migrated.cache_step)
    trusted = found.trusted
    check = None if trusted is None else trusted.check
    return RunResult(
        verdict=verdict,
        reason=reason,
        culprits=names,
        units=tuple(units),
        unjudged=_unjudged(found),
        outputs=tuple(output.result for output in migrated.outputs),
        steps=tuple(step for step in steps if step is not None),
        pipeline=migrated.pipeline,
        cache=migrated.cache,
        repair=repair,
        skipped=tuple(_skipped(units, found)),
        unproven={} if found.suite is None else dict(found.suite.manifest.dropped_cases),
        versions=_versions(),
        seconds=seconds,
        peak_bytes=peak_bytes(),
        estimate=found.estimate,
        model=_model_result(found),
        source=options.source,
        target=options.target,
        session=options.session,
        built_for=options.built_for,
        source_options="" if trusted is None else trusted.built.side.options_text,
        devices={} if found.alone is None else dict(found.alone.devices),
        strategy=migrated.strategy or options.strategy or LINEAR.name,
        strategy_reason=migrated.strategy_reason,
        by=str(options.by),
        device_pipeline=_name_of(options.device_pipeline),
        host_pipeline=_name_of(options.host_pipeline),
        captures=_capture_result(found.store),
        bytes=_disk_bytes(found, out),
        import_check=import_distance(check),
        import_=import_result(
            check,
            "" if trusted is None or failure else trusted.doubt,
            None if trusted is None else trusted.finding,
        ),
        lowering_notes=_notes(found),
        out=out,
    )


def without_explained(
    units: Sequence[UnitResult], runs: Mapping[str, frozenset[str]]
) -> list[UnitResult]:
    """Return the units, those skipped that run the kernel of another one that is wrong itself.

    Parameters
    ----------
    units
        The last word on each, so that what the migration alone has found counts as well.
    runs
        Of ``units_run``.
    """
    reasons = caused_by_kernels({unit.name: unit.verdict for unit in units}, runs)
    return [
        dataclasses.replace(unit, verdict=Verdict.SKIPPED, reason=reasons[unit.name], together=())
        if unit.name in reasons
        else unit
        for unit in units
    ]


def _units(found: Findings) -> list[UnitResult]:
    """Return the last word on each unit that was replayed."""
    if found.alone is None:
        return []
    contexts = {} if found.migrated is None else found.migrated.contexts
    sites: dict[str, list[SiteEntry]] = {}
    for entry in found.lowered.table:
        sites.setdefault(entry.site.unit, []).append(entry)
    units = [
        _described(in_context(found.alone.units[name], contexts.get(name)), sites[name], found)
        for name in found.lowered.units
    ]
    if found.migrated is not None and found.migrated.cache is not None:
        units = _with_cache(units, found.migrated.cache, found)
    wrong = culprits(units)
    if wrong and found.suite is not None:
        units = without_explained(units, units_run(found.suite, wrong))
    return units


def with_repairs(
    units: Sequence[UnitResult],
    verdict: Verdict,
    reason: str,
    found: Findings,
    repaired: Repaired,
) -> tuple[list[UnitResult], RepairedRun]:
    """Return the units with what their repairs gave, and how the model does with all of them.

    Parameters
    ----------
    units, verdict, reason
        Of the run without them.
    found
        What the stages have found.
    repaired
        Of the repairs.
    """
    migrated = repaired.migrated or Migrated()
    is_moved = repaired.migrated is not None
    after = dataclasses.replace(found, alone=repaired.alone, migrated=repaired.migrated)
    judged = {unit.name: unit for unit in _units(after)}
    names = culprits(units)
    if repaired.lost:
        verdict, reason = Verdict.INCONCLUSIVE, repaired.lost
    elif repaired.has_kernels:
        verdict, names, reason = conclusion(list(judged.values()), migrated, repaired.alone, "")
    searches = {one.unit: one.result for one in repaired.found}
    result = []
    for unit in units:
        now = judged[unit.name]
        if repaired.has_bundle:
            unit = dataclasses.replace(unit, on_device=now.on_device)
        search = searches.get(unit.name)
        if search is not None:
            times = {one.name: one.call_s for one in search.tried}
            is_repaired = bool(search.chosen)
            ended, why = now.verdict, now.reason
            if not is_repaired:
                ended, why = Verdict.SKIPPED, "no other kernel is right"
            elif repaired.lost:  # It was not judged with the others.
                ended, why = Verdict.INCONCLUSIVE, repaired.lost
            repair = RepairResult(
                chosen=search.chosen,
                verdict=ended,
                reason=why,
                on_device=is_repaired and repaired.has_bundle and bool(now.on_device),
                call_s=times.get(search.chosen),
                own_call_s=search.call_s,
                tried=search.tried,
                unmade=search.unmade,
            )
            unit = dataclasses.replace(unit, blame=search.blame, repair=repair)
        result.append(unit)
    return result, RepairedRun(
        verdict=verdict,
        reason=reason,
        culprits=names,
        units_passed=sum(unit.verdict is Verdict.PASS for unit in units),
        repaired_passed=sum(unit.verdict is Verdict.PASS for unit in judged.values()),
        units_on_device=sum(bool(unit.on_device) for unit in units),
        repaired_on_device=sum(
            bool(unit.on_device) for unit in (judged.values() if is_moved else units)
        ),
        pipeline=REPAIRS_PIPELINE if repaired.has_kernels else "",
        steps=tuple(
            step
            for step in (*migrated.steps, migrated.pipeline_step, migrated.cache_step)
            if step is not None
        ),
    )


def _unjudged(found: Findings) -> tuple[UnjudgedUnit, ...]:
    """Return the units of a model of which none was judged."""
    if found.alone is not None:
        return ()
    origins: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in found.lowered.units}
    for entry in found.lowered.table:
        origins[entry.site.unit][entry.site.id] = _texts(entry)
    return tuple(UnjudgedUnit(name=name, origins=sites) for name, sites in origins.items())


def _texts(entry: SiteEntry) -> tuple[str, ...]:
    return tuple(origin.text for origin in entry.origins)


def _with_cache(
    units: Sequence[UnitResult], cache: CacheResult, found: Findings
) -> list[UnitResult]:
    """Return the units with what a run with the cache on the device has shown of those on the host.

    What makes caches is no operator that could be replayed: that run alone judges it.
    """
    if not (cache.verdict is Verdict.PASS or cache.verdict.is_wrong):
        return list(units)
    on_host = {Site.parse(site).unit for site in found.lowered.host_only if site in _called(found)}
    judged = []
    for unit in units:
        if unit.name in cache.units:
            unit = dataclasses.replace(unit, verdict=cache.verdict, reason=cache.reason)
        if cache.verdict is Verdict.PASS and unit.name in {*on_host, *cache.units}:
            unit = dataclasses.replace(unit, on_device=True)
        judged.append(unit)
    return judged


def notes_about(notes: Iterable[Note], called: Collection[str]) -> tuple[str, ...]:
    """Return the texts of notes about the whole module, or about a unit that was called."""
    return tuple(n.text for n in notes if not n.kernels or not set(n.kernels).isdisjoint(called))


def _notes(found: Findings) -> tuple[str, ...]:
    """Return what was done to the model, and what its drive does that no engine does."""
    called = {Site.parse(site).unit for site in _called(found)}
    drive = found.model.drive
    return (
        *notes_about((*found.lowered.notes, *found.kernels.notes), called),
        *(drive.notes if isinstance(drive, PagedDrive) else ()),
    )


def _called(found: Findings) -> frozenset[str]:
    return frozenset() if found.store is None else found.store.called_sites()


def _described(unit: UnitResult, sites: Sequence[SiteEntry], found: Findings) -> UnitResult:
    """Return a unit with where the model calls it, and what no case of it shows."""
    entry = None if found.suite is None else found.suite.manifest.units.get(unit.name)
    unit = dataclasses.replace(
        unit,
        sites=len(sites),
        origin=unit_text(site.origins for site in sites),
        origins={site.site.id: _texts(site) for site in sites},
        target_kernel=found.kernels.names.get(unit.name, ""),
    )
    if entry is None:
        return unit
    dims = tuple(DimResult(**dataclasses.asdict(dim)) for dim in entry.dims_seen_once)
    return dataclasses.replace(
        unit,
        constant_inputs=entry.constant_inputs,
        inexact=entry.inexact,
        dims_seen_once=dims,
    )


def _skipped(units: Sequence[UnitResult], found: Findings) -> list[SkippedSite]:
    """Return every site that was not compared, or cannot leave the host, with the reason."""
    reasons = {unit.name: unit.reason for unit in units if unit.verdict is Verdict.SKIPPED}
    skipped = {
        entry.site.id: reasons[entry.site.unit]
        for entry in found.lowered.table
        if entry.site.unit in reasons
    }
    if found.suite is not None:
        skipped.update(found.suite.manifest.skipped_sites)
    cache = None if found.migrated is None else found.migrated.cache
    skipped.update(found.lowered.host_only)
    if cache is not None and cache.verdict is Verdict.PASS:
        # With its cache on the device all of the model ran there, as far as it was called at all.
        ran = _called(found)
        skipped = {
            site: why
            for site, why in skipped.items()
            if site not in ran and Site.parse(site).unit not in cache.units
        }
    for record in [] if found.store is None else found.store.sites():
        if reason := why_left_out(record):
            skipped.setdefault(record.site, reason)
    return [SkippedSite(site=site, reason=reason) for site, reason in skipped.items()]


def _model_result(found: Findings) -> ModelResult:
    return ModelResult(
        name=found.model.name,
        units=len(found.lowered.units),
        sites=len(found.lowered.table),
        parameters_bytes=sum(array.nbytes for array in found.model.params.values()),
        samples=len(found.model.samples),
    )


def _capture_result(store: CaptureStore | None) -> CaptureResult:
    if store is None:
        return CaptureResult()
    stats, notes = store.stats(), CaptureNotes.of(store)
    return CaptureResult(
        calls=stats.calls,
        sites=len(store.called_sites()),
        bytes_stored=stats.disk_bytes,
        bytes_seen=stats.seen_bytes,
        bytes_expected=notes.expected_bytes,
        capture_calls=notes.capture_calls,
        waited=notes.waited,
    )


def _disk_bytes(found: Findings, out: Path) -> DiskBytes:
    return DiskBytes(
        captures=_size_bytes(found.store.folder) if found.store is not None else 0,
        tests=_size_bytes(found.suite.folder) if found.suite is not None else 0,
        kernels=_size_bytes(out / "kernels"),
        bundle=_size_bytes(out / "bundle"),
    )


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _name_of(pipeline: Any) -> str | None:
    if pipeline is None or isinstance(pipeline, str):
        return pipeline
    return str(pipeline.info.name)


def _versions() -> dict[str, str]:
    found = versions("numpy", "safetensors")
    return {**found, "python": platform.python_version(), "machine": platform.machine()}
