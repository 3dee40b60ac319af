"""What changed between two builds, in words."""

from __future__ import annotations

import math

from relax_tapml.report.quantities import seconds_text
from relax_tapml.results.build_comparison import (
    BuildComparison,
    BuildResult,
    BuiltUnit,
    Change,
    Pace,
    SpeedChange,
    UnitChange,
)


def change_text(unit: UnitChange, comparison: BuildComparison) -> str:
    """Return how a unit did in each build, a line each, after a line on what that means."""
    lines = [f"{unit.name}: {', '.join(kinds(unit))}"]
    for build, one in zip(comparison.builds, unit.units, strict=True):
        lines.append(f"{build.name}: {_unit_text(build, one)}")
    if unit.speed is not None:
        lines.append(f"time per call: {speed_text(unit.speed)}")
    return "\n".join(lines)


def kinds(unit: UnitChange) -> list[str]:
    """Return what changed about a unit, a word or two each."""
    found = [] if unit.change is Change.UNCHANGED else [str(unit.change)]
    if unit.speed is not None and unit.speed.pace is not Pace.UNCHANGED:
        found.append(str(unit.speed.pace))
    if not found and unit.has_error_changed:
        found.append("other error")
    return found or ["unchanged"]


def verdict_change(unit: UnitChange) -> str:
    """Return the verdicts, once if they are one: ``pass -> mismatch``."""
    first, second = ("not judged" if one is None else str(one.verdict) for one in unit.units)
    return first if first == second else f"{first} -> {second}"


def error_change(unit: UnitChange) -> str:
    """Return the largest errors as shares of what they may be: ``3.1 % -> 120 %``."""
    first, second = (_share_text(None if one is None else one.share) for one in unit.units)
    return first if first == second and not unit.has_error_changed else f"{first} -> {second}"


def speed_text(speed: SpeedChange) -> str:
    """Return both times, and the change with the bounds that the spread of rounds leaves it."""
    first, second = map(_time_text, speed.seconds)
    bounds = f"{_percent(speed.low)} to {_percent(speed.high)}"
    return f"{first} -> {second}, {_percent(speed.ratio)} ({bounds})"


def build_text(build: BuildResult) -> str:
    """Return what a build is, in a line."""
    tvm = build.versions.get("apache-tvm")
    parts = [
        f"TVM {tvm}" if tvm else "TVM not known",
        f"{build.target} in session {build.session}",
        *([f"pipeline {build.device_pipeline}"] if build.device_pipeline else []),
        *(f"{key}={value}" for key, value in build.environment.items()),
        f"python {build.versions.get('python', '')} {build.python}".replace("  ", " "),
        *(["suite given as TVMScript"] if build.is_transcribed else []),
    ]
    return f"{build.name}: {', '.join(parts)}"


def _unit_text(build: BuildResult, unit: BuiltUnit | None) -> str:
    if unit is None:
        return f"not judged: {build.reason or 'the unit is not known there'}"
    return f"{unit.verdict}: {unit.reason}" if unit.reason else str(unit.verdict)


def _share_text(share: float | None) -> str:
    if share is None or math.isnan(share):
        return "-" if share is None else "nan"
    return f"{100 * share:.3g} %"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.3g} %"


def _time_text(seconds: float) -> str:
    return seconds_text(seconds) if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
