"""A suite that is known to pass where it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.choose import Case
from relax_tapml.carve.manifest import Manifest
from relax_tapml.carve.replay import replay
from relax_tapml.carve.suite import note_unwritten, write_suite
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import SourceError

_HARMLESS = (Verdict.PASS, Verdict.SKIPPED)


def write_proven_suite(
    folder: Path,
    cases: Sequence[Case],
    *,
    lowered: tvm.IRModule,
    store: CaptureStore,
    source: Any,
    pipeline: tvm.transform.Pass | None,
    kernels: Path,
    is_probed: bool,
    on_written: Callable[[Manifest], None],
) -> None:
    """Write a suite and replay it where it was recorded, replacing an older one.

    What fails there accuses nobody else. A probe may, since no source has run it before, and is
    left out with the reason; a recorded case may not.

    Parameters
    ----------
    folder, cases, lowered, store, source, is_probed
        As for ``write_suite``.
    pipeline, kernels
        The source's own pass, and the folder its kernels are in.
    on_written
        Called before each replay.

    Raises
    ------
    SourceError
        A recorded case does not pass. What the source never writes is not judged.
    """
    unproven: dict[str, str] = {}
    while True:
        manifest = write_suite(
            folder,
            cases,
            lowered=lowered,
            store=store,
            source=source,
            is_probed=is_probed,
            unproven=unproven,
            replace=True,
            pipeline=pipeline,
            kernels=kernels,
        )
        on_written(manifest)
        report = replay(
            folder, target=source, session="inline", device_pipeline=pipeline, kernels=kernels
        )
        results = [result for detail in report.details.values() for result in detail.cases]
        unwritten = {
            (result.unit, result.case.name): result.unwritten
            for result in results
            if any(mask is not None for mask in result.unwritten)
        }
        if unwritten:
            # Nobody is judged by values that even the source does not write.
            note_unwritten(folder, unwritten)
            report = replay(
                folder, target=source, session="inline", device_pipeline=pipeline, kernels=kernels
            )
            results = [result for detail in report.details.values() for result in detail.cases]
        wrong = [result for result in results if result.verdict not in _HARMLESS]
        recorded = [result for result in wrong if not result.case.is_probe]
        if recorded:
            told = "; ".join(f"{result.unit}: {result.reason}" for result in recorded)
            raise SourceError(
                f"the carved suite does not pass on its own source {source.kind.name} ({told}). "
                "Nothing is said about the target"
            )
        if not wrong:
            return
        for result in wrong:
            unproven[f"{result.unit}/{result.case.name}"] = (
                f"the source itself fails this probe: {result.reason}"
            )
