"""The end of a run on stdout: the units that did not pass, what was found, what to run next."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relax_tapml.cli.console import console_of, plain
from relax_tapml.compare.verdict import Verdict
from relax_tapml.printable import names_text
from relax_tapml.report.dims import dim_rows, dims_text
from relax_tapml.report.findings import (
    agreement_text,
    cache_text,
    closed,
    explain,
    headline,
    import_text,
    is_pass,
    notes,
    open_end,
    pipeline_text,
    precision_text,
    repair_text,
    skipped_by_reason,
    suspicions,
    tolerance_text,
    untested_text,
    verdict_text,
)
from relax_tapml.report.next_commands import next_commands
from relax_tapml.report.power import power_sentences
from relax_tapml.report.quantities import (
    count_text,
    metrics_text,
    number_text,
    seconds_text,
    size_text,
)
from relax_tapml.results.run_result import RunResult
from relax_tapml.results.unit_result import UnitResult

_TEXT_WIDTH = 92
_UNWRAPPED = 100_000
_EXPLAINED_AT_MOST = 5
_REASONS_AT_MOST = 4


def present(
    result: RunResult,
    *,
    out: Path,
    show_all: bool = False,
    console: Console | None = None,
) -> None:
    """Print what a run found for people.

    Parameters
    ----------
    result
        What it found.
    out
        Its folder, as the person wrote it; commands to run next name it.
    show_all
        List the units that pass, too, all metrics, and what the cases of a unit do not test.
    console
        Where to print; stdout by default, and where that is no terminal without colours and with
        each row on one line. Where the table does not fit, each unit is a block of lines.
    """
    console = console or _stdout()
    listed = [
        unit
        for unit in result.units
        if show_all or unit.verdict is not Verdict.PASS or unit.name in result.culprits
    ]
    console.print()
    if listed:
        table = _table(listed)
        wide = console.options.update_width(_UNWRAPPED)
        if console.measure(table, options=wide).maximum <= console.width:
            console.print(table)
        else:
            _print_blocks(listed, console)
    hidden = len(result.units) - len(listed)
    if listed and hidden:
        command = f"relax-tapml report {shlex.quote(str(out))} --all"
        passes, them = ("passes", "it") if hidden == 1 else ("pass", "them")
        _print(console, f"({hidden} more {passes}; {command} lists {them})", indent="  ")
    for unit in listed if show_all else ():
        if unit.metrics:
            _print(console, f"{unit.name}: {metrics_text(unit.metrics)}", indent="  ")
        untested = untested_text(unit)
        if untested:
            _print(console, untested, indent="  ")
    if listed:
        console.print()
    _print_transfers(result, console)
    for sentence in _sentences(result, out):
        _print(console, sentence)
    for row in dim_rows(result) if show_all else ():
        _print(console, f"{row.name} = {row.value}: {row.text}.", indent="  ")
    commands = next_commands(result, out, has_tests=(out / "tests").is_dir())
    labels = ["Report:", "Next:", *[""] * len(commands)]
    for label, text in zip(labels, [str(out / "report.html"), *commands], strict=False):
        # Never wrapped: a command is copied as a whole.
        console.print(plain(f"{label:<8}{text}"), soft_wrap=True)


def _stdout() -> Console:
    console = console_of()
    return console if console.is_terminal else console_of(width=_UNWRAPPED)


def _table(units: Sequence[UnitResult]) -> Table:
    has_origins = any(unit.origin for unit in units)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("  unit", no_wrap=True)
    if has_origins:
        table.add_column("origin", no_wrap=True)
    for name in ("sites", "error", "tolerance"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("verdict", no_wrap=True)
    for unit in units:
        cells = [plain(f"  {unit.name}")]
        if has_origins:
            cells.append(plain(unit.origin or "-"))
        cells += [
            plain(str(unit.sites)),
            plain(number_text(unit.error)),
            plain(number_text(unit.tolerance)),
            _verdict(unit),
        ]
        table.add_row(*cells)
    return table


def _print_blocks(units: Sequence[UnitResult], console: Console) -> None:
    for unit in units:
        console.print(Text.assemble(plain(f"{unit.name}  "), _verdict(unit)), overflow="fold")
        if unit.origin:
            console.print(plain(f"  origin {unit.origin}"), overflow="fold")
        error, tolerance = number_text(unit.error), number_text(unit.tolerance)
        numbers = f"  {count_text(unit.sites, 'site')}, error {error}, tolerance {tolerance}"
        console.print(plain(numbers), overflow="fold")


def _print_transfers(result: RunResult, console: Console) -> None:
    """Print what crossed to and from the device, stage by stage, and how long devices took.

    Of a run that was resumed, what earlier ones did is counted, except in the last line.
    """
    rows = []
    devices = result.devices.values()
    if devices:
        sent = sum(device.traffic.to_device for device in devices)
        fetched = sum(device.traffic.to_host for device in devices)
        rows.append(("replay", sent, fetched, sum(device.seconds for device in devices)))
    steps = [(step, step.bytes_to_device) for step in result.steps]
    moved = [(step, sent) for step, sent in steps if sent is not None]
    if moved:
        sent = sum(sent for _, sent in moved)
        fetched = sum(step.bytes_moved for step, _ in moved) - sent
        spent = sum(step.seconds.total for step, _ in moved)
        rows.append((f"migrate, {count_text(len(moved), 'step')}", sent, fetched, spent))
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("  transfers", no_wrap=True)
    for name in ("to the device", "to the host", "time"):
        table.add_column(name, no_wrap=True, justify="right")
    for name, sent, fetched, seconds in rows:
        table.add_row(f"  {name}", size_text(sent), size_text(fetched), seconds_text(seconds))
    table.add_row("  this run", "", "", seconds_text(result.seconds.total))
    console.print(table)
    parts = ((name, getattr(result.bytes, name)) for name in ("captures", "tests", "bundle"))
    on_disk = ", ".join(f"{name} {size_text(size)}" for name, size in parts if size)
    if on_disk:
        console.print(plain(f"  on disk: {on_disk}"))
    console.print()


def verdict_cell(verdict: Verdict, text: str) -> Text:
    """Return the text of a verdict in its colour: wrong red, open yellow, pass green."""
    if verdict.is_wrong:
        return plain(text, style="bold red")
    return plain(text, style="green" if verdict is Verdict.PASS else "yellow")


def _verdict(unit: UnitResult) -> Text:
    return verdict_cell(unit.verdict, verdict_text(unit))


def _sentences(result: RunResult, out: Path) -> list[str]:
    culprits = {name for name in result.culprits if not is_pass(name)}
    explained = [
        unit
        for unit in result.units
        if unit.name in culprits
        # One that was not judged has no device, and the reason of the run to explain it.
        or (unit.verdict is Verdict.INCONCLUSIVE and unit.device)
    ]
    sentences = [headline(result), *(explain(unit) for unit in explained[:_EXPLAINED_AT_MOST])]
    if len(explained) > _EXPLAINED_AT_MOST:
        sentences.append(f"The report explains {len(explained) - _EXPLAINED_AT_MOST} more.")
    sentences += filter(None, [repair_text(result, out), pipeline_text(result), cache_text(result)])
    sentences += open_end(result)
    sentences += power_sentences(result)
    sentences += precision_text(result.units)
    sentences += suspicions(result.devices)
    sentences += filter(None, [agreement_text(result)])
    sentences += notes(result)
    check = result.import_check
    if result.import_ and result.import_.warning:
        sentences.append(f"Warning: {closed(result.import_.warning)}")
    elif check and check.verdict is not Verdict.PASS:
        tolerance = tolerance_text(check.tolerance, check.tolerance_origin)
        sentences.append(
            "The source does not agree with the framework: max abs "
            f"{closed(f'{number_text(check.max_abs)}, {tolerance}')}"
        )
    sentences += import_text(result)
    sentences += filter(None, [dims_text(result)])
    if result.skipped:
        sentences += _skipped(result)
    if culprits and (out / "bundle").is_dir():
        blamed = [unit for unit in result.units if unit.name in culprits]
        on_host = [unit.name for unit in blamed if not unit.on_device]
        if len(on_host) == len(culprits):
            what = "this unit" if len(on_host) == 1 else "these units"
        else:
            what = ", ".join(on_host)
        if on_host:
            sentences.append(f"{out / 'bundle'} keeps {what} on the host.")
    return sentences


def _skipped(result: RunResult) -> list[str]:
    """Return how many sites were skipped, and why, the most frequent reasons first."""
    counted = count_text(len(result.skipped), "site")
    sentences = [f"{counted} skipped, which means not tested on the target:"]
    reasons = skipped_by_reason(result)
    for reason, sites in reasons[:_REASONS_AT_MOST]:
        units = list(dict.fromkeys(site.split("/", 2)[-1] for site in sites))
        sentences.append(f"{count_text(len(sites), 'site')} of {names_text(units)}: {reason}")
    more = len(reasons) - _REASONS_AT_MOST
    if more > 0:
        sentences.append(f"The report has {count_text(more, 'more reason')}.")
    return sentences


def _print(console: Console, text: str, *, indent: str = "") -> None:
    wrapped = textwrap.fill(
        text,
        width=min(console.width, _TEXT_WIDTH),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(plain(wrapped), soft_wrap=True)
