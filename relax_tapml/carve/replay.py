"""Replay a suite on a device and say which units are right there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relax_tapml.carve.case_replay import CaseReplay
from relax_tapml.carve.open_suite import Suite, open_suite
from relax_tapml.carve.replayer import Replayer
from relax_tapml.carve.submodule import is_same
from relax_tapml.compare.comparison import Comparison, worst
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode, UsageError
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.targets.device import Device
from relax_tapml.targets.target import parse_target

_RIGHT = {Verdict.PASS, Verdict.SKIPPED}
_FAULTS = {Verdict.BUILD_ERROR, Verdict.CRASH, Verdict.TIMEOUT}
# The first of these that a case of a unit ended with is the unit's verdict.
_GRAVEST_FIRST = (
    Verdict.BUILD_ERROR,
    Verdict.CRASH,
    Verdict.TIMEOUT,
    Verdict.MISMATCH,
    Verdict.FLAKY,
    Verdict.PASS,
    Verdict.SKIPPED,
)


@dataclass(frozen=True, kw_only=True)
class UnitReplay:
    """How one unit ended.

    Parameters
    ----------
    unit
        Its name.
    verdict
        The gravest of its cases; ``skipped`` where nothing was compared, and where it runs the
        kernel of another unit of the suite that is wrong itself.
    reason
        One sentence for people; empty for a pass.
    cases
        Its cases, in order; after a crash or a timeout the remaining ones are ``skipped``.
    runs, failures
        How often the decisive case was run, and how often that failed.
    """

    unit: str
    verdict: Verdict
    reason: str
    cases: tuple[CaseReplay, ...] = ()
    runs: int = 1
    failures: int = 0

    @property
    def worst(self) -> Comparison | None:
        """The comparison that decided, with error and tolerance; None if nothing was compared."""
        comparisons = [item for case in self.cases for item in case.comparisons]
        return worst(comparisons) if comparisons else None


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """How a suite ended.

    Parameters
    ----------
    units
        Verdict of every unit, those that could not be carved included.
    details
        The same units, with reasons, cases and comparisons.
    """

    units: dict[str, Verdict]
    details: dict[str, UnitReplay]

    @property
    def exit_code(self) -> ExitCode:
        """1 if a unit is wrong, 3 if no unit was compared at all, otherwise 0."""
        verdicts = set(self.units.values())
        if verdicts - _RIGHT:
            return ExitCode.MISMATCH
        return ExitCode.PASS if Verdict.PASS in verdicts else ExitCode.INCONCLUSIVE


def replay(
    suite: Path | str,
    *,
    target: Any = "llvm",
    session: str = "process",
    device_pipeline: Any = None,
    kernels: Path | str | None = None,
    timeout_s: float = 60.0,
    units: Sequence[str] | None = None,
    repeat: int = 1,
    device: Device | None = None,
) -> ReplayReport:
    """Run every unit of a suite alone on a device and compare it with what was recorded.

    Parameters
    ----------
    suite
        A folder of ``write_suite``, or an output folder with one in ``tests``.
    target
        A target string, JSON, or ``tvm.target.Target`` to build the units for.
    session
        Where the device is, as for ``open_session``.
    device_pipeline
        A Relax pass, or ``MODULE:ATTR`` that names one, applied to the units before they are
        scheduled and built.
    kernels
        Folder of cached kernels; by default ``kernels`` next to the suite where there is one, or
        else a temporary folder.
    timeout_s
        How long one call on the device may take.
    units
        Only these units; all by default.
    repeat
        How often each case is run. One that fails now and then makes its unit ``flaky``.
    device
        Shared with others, instead of one of our own for ``session`` and ``timeout_s``; it is left
        open.

    Raises
    ------
    StoreError
        The suite is damaged; nothing has run.
    UsageError
        The target, session, pipeline or a unit is not known.
    DeviceUnavailable
        No session could be opened.
    """
    if repeat < 1:
        raise UsageError(f"repeat {repeat}: expected at least 1")
    opened = open_suite(suite)
    chosen = _chosen(opened, units)
    with Replayer(
        opened,
        target=parse_target(target) if isinstance(target, str) else target,
        session=session,
        device_pipeline=load_pipeline(device_pipeline),
        kernels=None if kernels is None else Path(kernels),
        timeout_s=timeout_s,
        units=chosen,
        device=device,
    ) as replayer:
        details = {unit: _replay_unit(replayer, unit, repeat) for unit in chosen}
    details = {unit: _without_parts(opened, detail, details) for unit, detail in details.items()}
    if units is None:
        for unit, reason in opened.manifest.skipped.items():
            details[unit] = UnitReplay(unit=unit, verdict=Verdict.SKIPPED, reason=reason)
    return ReplayReport(
        units={unit: detail.verdict for unit, detail in details.items()}, details=details
    )


def _replay_unit(replayer: Replayer, unit: str, repeat: int) -> UnitReplay:
    ended: list[CaseReplay] = []
    for case in replayer.suite.manifest.units[unit].cases:
        fault = next((item for item in ended if item.verdict in _FAULTS), None)
        if fault is None:
            ended.append(replayer.run(unit, case, repeat=repeat))
        else:
            reason = f"not run: {fault.case.name} ended with {fault.verdict}"
            ended.append(
                CaseReplay(unit=unit, case=case, verdict=Verdict.SKIPPED, reason=reason, runs=0)
            )
    decisive = min(ended, key=lambda item: (_GRAVEST_FIRST.index(item.verdict), -item.failures))
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
    )


def _without_parts(
    suite: Suite, detail: UnitReplay, details: Mapping[str, UnitReplay]
) -> UnitReplay:
    """Say nothing of a unit that runs the kernel of another one that is wrong itself."""
    if detail.verdict in _RIGHT:
        return detail
    module = suite.module(detail.unit)
    ours = {gvar.name_hint: function for gvar, function in module.functions.items()}
    wrong = [
        name
        for name, other in details.items()
        if name != detail.unit
        and name in ours
        and _may_be_why(other, detail)
        # In a merged suite it may be the kernel of another model.
        and is_same(ours[name], suite.module(name)[name])
    ]
    if not wrong:
        return detail
    told = ", ".join(f"{name} ({details[name].verdict})" for name in wrong)
    reason = f"{detail.verdict}; not judged, since it runs {told}"
    return replace(detail, verdict=Verdict.SKIPPED, reason=reason)


def _may_be_why(kernel: UnitReplay, detail: UnitReplay) -> bool:
    """Whether a kernel fails in a way that explains how a unit that runs it fails.

    It fails on what was recorded, each time; and a fault is explained by a fault only.
    """
    failed = any(c.verdict not in _RIGHT and not c.case.is_probe for c in kernel.cases)
    if not failed or kernel.verdict is Verdict.FLAKY:
        return False
    return detail.verdict not in _FAULTS or kernel.verdict in _FAULTS


def _chosen(suite: Suite, units: Sequence[str] | None) -> tuple[str, ...]:
    known = suite.manifest.units
    if units is None:
        return tuple(known)
    for unit in units:
        if unit not in known:
            close = difflib.get_close_matches(unit, known) or list(known)[:5]
            raise UsageError(
                f"suite {suite.folder} has no case of unit {unit!r}; it has {', '.join(close)}"
            )
    return tuple(units)
