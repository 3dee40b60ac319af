"""A suite that is known to pass where it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.select.choose_cases import Case
from relax_tapml.carve.write_suite import write_suite
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import SourceError
from relax_tapml.passes.cache_call import reads_cache
from relax_tapml.processes.fork import ForkChannel, ForkFailed, ForkRetries, can_fork, forked
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.results.json_codec import decode, encode
from relax_tapml.suite.manifest import Manifest
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.revise_suite import drop_cases, note_unwritten
from relax_tapml.targets.platforms.registry import platform_of

_OTHER_STATE = "its KV cache, brought into the recorded state, does not give the recorded results"
_HARMLESS = (Verdict.PASS, Verdict.SKIPPED)


def write_verified_suite(
    folder: Path,
    cases: Sequence[Case],
    *,
    lowered: tvm.IRModule,
    store: CaptureStore,
    source: Any,
    pipeline: tvm.transform.Pass | None,
    kernels: Path,
    is_probed: bool,
    on_unit: Callable[[str], None] = lambda _unit: None,
    on_written: Callable[[Manifest], None] = lambda _manifest: None,
    on_replayed: Callable[[str], None] = lambda _unit: None,
) -> Suite:
    """Write a suite and replay it where it was recorded, replacing an older one.

    What fails there is not about a target. A probe may fail, since no source has run it
    before, and is dropped with the reason; a recorded case may not. A case that brings a KV cache
    into a recorded state must return what was recorded to the bit, or is dropped: it may have
    rebuilt another state, which a tolerance could hide.

    Parameters
    ----------
    folder, cases, lowered, store, source, is_probed
        As for ``write_suite``.
    pipeline, kernels
        The source's own pass, and the folder its kernels are in.
    on_unit
        Called with each unit that was carved.
    on_written
        Called before the replay.
    on_replayed
        Called with the unit of each case that was replayed.

    Returns
    -------
    Suite
        What was written, without these.

    Raises
    ------
    SourceError
        A recorded case does not pass. What the source never writes is not judged.
    """
    suite = write_suite(
        folder,
        cases,
        lowered=lowered,
        store=store,
        source=source,
        is_probed=is_probed,
        replace=True,
        pipeline=pipeline,
        kernels=kernels,
        on_unit=on_unit,
    )
    on_written(suite.manifest)
    failures, unwritten = _replayed(suite, source, pipeline, kernels, on_replayed)
    if unwritten:
        # No device is judged by values that even the source does not write.
        suite = note_unwritten(suite, unwritten)
        failures, _ = _replayed(suite, source, pipeline, kernels, on_replayed)
    recorded = {n: reason for n, reason in failures.items() if not (n.is_probe or n.has_state)}
    if recorded:
        reasons = "; ".join(f"{name.unit}: {reason}" for name, reason in recorded.items())
        raise SourceError(
            f"the carved suite does not pass on its own source {source.kind.name} ({reasons}). "
            "The target was not judged"
        )
    if not failures:
        return suite
    return drop_cases(
        suite,
        {
            f"{name.unit}/{name.case}": reason
            if name.has_state
            else f"the source itself fails this probe: {reason}"
            for name, reason in failures.items()
        },
    )


@dataclass(frozen=True, kw_only=True)
class _CaseOutcome:
    """How a case ended on the source.

    Parameters
    ----------
    verdict, reason
        Of the case.
    farthest
        The largest difference of a value from the recorded one.
    has_unwritten
        Which outputs have a mask.
    """

    verdict: Verdict
    reason: str
    farthest: float
    has_unwritten: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class _Name:
    """A case of a suite."""

    unit: str
    case: str
    is_probe: bool

    @property
    def has_state(self) -> bool:
        """Whether the case brings a KV cache into a recorded state."""
        return reads_cache(self.unit)


def _replayed(
    suite: Suite,
    source: Any,
    pipeline: tvm.transform.Pass | None,
    kernels: Path,
    on_replayed: Callable[[str], None],
) -> tuple[dict[_Name, str], dict[tuple[str, str], Sequence[Array | None]]]:
    """Replay every case on the source.

    Returns those that fail, with the reason; and by unit and case, for each output, the values that
    the source never writes, None for none.

    A case that crashes ends the fork that it runs in, and what comes after it goes on in another.
    A source that cannot be forked has a session of its own, as a device has.
    """
    is_forked = can_fork(source)
    is_alone = "process" in platform_of(source).sessions()
    failures: dict[_Name, str] = {}
    unwritten: dict[tuple[str, str], Sequence[Array | None]] = {}
    with Replayer(
        suite,
        target=source,
        session="process" if is_alone and not is_forked else "inline",
        device_pipeline=pipeline,
        kernels=kernels,
    ) as replayer:
        replayer.build()
        waiting = [
            (unit, case) for unit, entry in suite.manifest.units.items() for case in entry.cases
        ]

        def work(fork: ForkChannel) -> None:
            replayer.expect(waiting)
            for unit, case in waiting:
                result = replayer.run(unit, case)
                masks = [mask for mask in result.unwritten if mask is not None]
                outcome = _CaseOutcome(
                    verdict=result.verdict,
                    reason=result.reason,
                    farthest=max((c.max_abs for c in result.comparisons), default=0.0),
                    has_unwritten=tuple(mask is not None for mask in result.unwritten),
                )
                fork.send(encode(outcome), masks)

        retries = ForkRetries(f"replaying the suite on {source.kind.name}")
        while waiting:
            try:
                for message in forked(work, is_safe=is_forked):
                    unit, case = waiting.pop(0)
                    on_replayed(unit)
                    outcome = decode(message.document, _CaseOutcome)
                    name = _Name(unit=unit, case=case.name, is_probe=case.is_probe)
                    if outcome.verdict not in _HARMLESS:
                        failures[name] = outcome.reason
                    elif name.has_state and outcome.farthest != 0:
                        failures[name] = f"its results differ by up to {outcome.farthest:.3g}"
                    if name in failures and name.has_state:
                        failures[name] = f"{_OTHER_STATE}: {failures[name]}"
                    masks = iter(message.arrays)
                    found = [next(masks) if has else None for has in outcome.has_unwritten]
                    if message.arrays:
                        unwritten[unit, case.name] = found
            except ForkFailed as death:
                if retries.allows(death):
                    continue
                unit, case = waiting.pop(0)
                name = _Name(unit=unit, case=case.name, is_probe=case.is_probe)
                failures[name] = f"it {death.text}"
    return failures, unwritten
