"""What ``relax-tapml compare-builds`` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from relax_tapml.cli.console import console_of, plain
from relax_tapml.errors import ExitCode
from relax_tapml.report.changes import (
    build_text,
    error_change,
    kinds,
    speed_text,
    verdict_change,
)
from relax_tapml.report.quantities import count_text
from relax_tapml.results.build_comparison import BuildComparison, Change, UnitChange

_UNWRAPPED = 100_000


def print_comparison(found: BuildComparison, console: Console | None = None) -> None:
    """Print both builds, a row for each unit that changed, and why it is worse."""
    console = console or console_of()
    if not console.is_terminal:
        console.width = _UNWRAPPED
    for build in found.builds:
        console.print(plain(build_text(build)), soft_wrap=True)
        if build.reason:
            console.print(plain(f"{build.name} was not replayed: {build.reason}"), soft_wrap=True)
    changed = [unit for unit in found.units if unit.is_changed]
    is_lost = any(build.reason for build in found.builds)
    if changed and not is_lost:
        console.print(_table(changed))
    for unit in changed if not is_lost else ():
        for text in _reasons(unit, found):
            console.print(plain(text), soft_wrap=True)
    for text in _not_timed(found):
        console.print(plain(text), soft_wrap=True)
    console.print(plain(_total(found)), soft_wrap=True)


def _table(units: list[UnitChange]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("unit", "", "verdict", "error of tolerance", "time per call"):
        table.add_column(heading, no_wrap=True)
    for unit in units:
        style = "bold red" if unit.is_regression else ""
        table.add_row(
            plain(unit.name, style=style),
            plain(", ".join(kinds(unit)), style=style),
            plain(verdict_change(unit)),
            plain(error_change(unit)),
            plain("-" if unit.speed is None else speed_text(unit.speed)),
        )
    return table


def _reasons(unit: UnitChange, found: BuildComparison) -> list[str]:
    """Return why a unit is wrong or open, for each build in which it is."""
    if unit.change is Change.UNCHANGED:
        return []
    return [
        f"{unit.name} in {build.name}: {one.reason}"
        for build, one in zip(found.builds, unit.units, strict=True)
        if one is not None and one.reason
    ]


def _not_timed(found: BuildComparison) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for unit in found.units:
        if unit.speed_reason:
            reasons.setdefault(unit.speed_reason, []).append(unit.name)
    return [f"not timed: {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _total(found: BuildComparison) -> str:
    regressions = found.regressions
    count = count_text(len(regressions), "regression")
    named = f" ({', '.join(regressions)})" if regressions else ""
    fixed = sum(unit.change is Change.FIXED for unit in found.units)
    parts = [f"{count}{named}", *([f"{fixed} fixed"] if fixed else [])]
    unchanged = sum(not unit.is_changed for unit in found.units)
    text = f"{', '.join(parts)}; {unchanged} of {count_text(len(found.units), 'unit')} unchanged"
    return f"{text}; inconclusive" if found.exit_code is ExitCode.INCONCLUSIVE else text
