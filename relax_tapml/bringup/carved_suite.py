"""Capture a source's runs, and carve a suite from the captures that passes on the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relax_tapml.bringup._capture_notes import CaptureNotes
from relax_tapml.bringup._verified_suite import write_verified_suite
from relax_tapml.bringup._work import iterations_of
from relax_tapml.bringup.capture_plan import ALL, CapturePlan
from relax_tapml.bringup.ir_dump import NO_DUMP, IrDump
from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.bringup.trusted_source import Trusted
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.select.call_work import UnitWork
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.progress import SILENT, Stage
from relax_tapml.report.quantities import count_text, size_text
from relax_tapml.suite.manifest import Manifest
from relax_tapml.suite.open_suite import Suite


@dataclass(frozen=True, kw_only=True)
class CarvePlan:
    """What is carved of each unit.

    Parameters
    ----------
    cases_per_unit
        At most this many recorded cases.
    is_probed
        Whether there are also probes: cases with inputs that were not recorded.
    """

    cases_per_unit: int = 3
    is_probed: bool = True


def capture(
    trusted: Trusted,
    folder: Path,
    dump: IrDump = NO_DUMP,
    stage: Stage = SILENT,
    plan: CapturePlan = ALL,
) -> CaptureStore:
    """Run the source with capture calls, and record the operator calls of every sample.

    Parameters
    ----------
    trusted
        The source; its outputs must repeat bit for bit.
    folder
        Of the store. Samples that it has already are not run again.
    dump
        Gets the module with capture calls.
    stage
        Shows the progress.
    plan
        Which calls are recorded; all by default.

    Raises
    ------
    UsageError
        The store has other calls than those of the plan.
    MachineError
        The file system has no room for what will be stored.
    SourceError
        A captured run gave other outputs than the plain one.
    StoreError
        The store cannot be read or written.
    """
    built = trusted.built
    store = built.source.capture(folder, trusted.outputs, dump, stage, plan)
    stage.say(captured_text(store, len(built.lowered.table), len(built.model.samples)))
    return store


def captured_text(store: CaptureStore, sites: int, samples: int) -> str:
    """Return what a store has of so many sites and samples, for people."""
    stats, notes = store.stats(), CaptureNotes.of(store)
    chosen = option = ""
    if notes.capture_calls != ALL.text:
        chosen = f"{len(store.called_sites())} of "
        option = f" (--capture-calls {notes.capture_calls})"
    return (
        f"{chosen}{count_text(sites, 'site')} x {count_text(samples, 'input')}{option}: "
        f"{size_text(stats.disk_bytes)} stored, {size_text(stats.seen_bytes)} seen"
        f"{f'; the GPU waited for each copy: {notes.waited}' if notes.waited else ''}"
    )


def carve(
    store: CaptureStore,
    lowered: Lowered,
    side: SideSpec,
    folder: Path,
    kernels: Path,
    plan: CarvePlan | None = None,
    stage: Stage = SILENT,
) -> Suite:
    """Carve a few cases of each unit into a suite, and replay it on the source.

    Parameters
    ----------
    store
        Of ``capture``, or opened from an output folder.
    lowered
        The module that was captured; ``read_lowered`` reads that of an output folder.
    side
        The source.
    folder
        Where the suite goes; an older one is replaced.
    kernels
        Folder of cached kernels.
    plan
        What is carved.
    stage
        Shows the progress.

    Returns
    -------
    Suite
        What was written, opened.

    Raises
    ------
    SourceError
        A recorded case does not pass on the source, or a unit cannot be carved without a crash.
    """
    plan = plan or CarvePlan()
    calls = list(annotated_calls(lowered.module))
    sites = [site for site, _ in calls]
    work = UnitWork(lowered.module, {site.id: call for site, call in calls})
    cases = choose_cases(store, sites, plan.cases_per_unit, work=work)
    shown = _Shown(stage, iterations_of(lowered), len(cases), side.name)
    return write_verified_suite(
        folder,
        cases,
        lowered=lowered.module,
        store=store,
        source=side.trusted().target,
        pipeline=side.pipeline,
        kernels=kernels,
        is_probed=plan.is_probed,
        on_unit=shown.carved,
        on_written=shown.written,
        on_replayed=shown.replayed,
    )


class _Shown:
    """The progress of carving: units by what their kernels do, then cases."""

    def __init__(
        self, stage: Stage, iterations: Mapping[str, int], cases: int, source: str
    ) -> None:
        self._stage = stage
        self._iterations = iterations
        self._source = source
        self._units = self._cases = self._done = 0
        # What a unit costs whatever it does, in iterations.
        self._base = max(sum(iterations.values()) // max(len(iterations), 1), 1)
        self._total = sum(iterations.values()) + self._base * len(iterations)
        stage.say(f"writing {count_text(cases, 'case')} of {count_text(len(iterations), 'unit')}")

    def carved(self, unit: str) -> None:
        self._units += 1
        self._done += self._iterations.get(unit, 0) + self._base
        self._stage.update(self._done, self._total)
        self._stage.say(f"{self._units} of {len(self._iterations)} units carved, last {unit}")

    def written(self, manifest: Manifest) -> None:
        self._total = sum(len(unit.cases) for unit in manifest.units.values())
        self._stage.update(0, self._total)
        self._stage.say(f"replaying {case_counts(manifest)} on {self._source}")

    def replayed(self, unit: str) -> None:
        del unit
        self._cases += 1
        self._stage.update(min(self._cases, self._total), self._total)


def suite_text(suite: Suite, side: SideSpec) -> str:
    """Return what a suite has that passes on its source, for people."""
    units = count_text(len(suite.manifest.units), "unit")
    return f"{units}, {case_counts(suite.manifest)}; all pass on {side.name}"


def case_counts(manifest: Manifest) -> str:
    """Return how many cases and probes a suite has, and how many were dropped."""
    cases = [case for unit in manifest.units.values() for case in unit.cases]
    probes = sum(case.is_probe for case in cases)
    counts = [count_text(len(cases) - probes, "case")]
    if probes:
        counts.append(count_text(probes, "probe"))
    if manifest.dropped_cases:
        dropped = count_text(len(manifest.dropped_cases), "case")
        counts.append(f"{dropped} dropped, result.json has the reasons")
    return ", ".join(counts)
