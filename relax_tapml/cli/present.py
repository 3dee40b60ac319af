"""The end of a run on stdout: the units that did not pass, what was found, what to run next."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relax_tapml.cli.console import console_of, plain
from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.dims import dim_rows, dims_text
from relax_tapml.report.findings import (
    agreement_text,
    explain,
    headline,
    is_pass,
    notes,
    open_end,
    pipeline_text,
    precision_text,
    suspicions,
    tolerance_text,
    unseen_text,
    verdict_text,
)
from relax_tapml.report.power import power_sentences
from relax_tapml.report.quantities import count_text, number_text, seconds_text, size_text

_TEXT_WIDTH = 92
_UNWRAPPED = 100_000
_EXPLAINED_AT_MOST = 5


def present(
    result: Mapping[str, Any],
    *,
    out: Path,
    show_all: bool = False,
    console: Console | None = None,
) -> None:
    """Print a result document for people.

    Parameters
    ----------
    result
        The document of ``result.json``.
    out
        The folder it lies in, as the person wrote it; commands to run next name it.
    show_all
        List the units that pass, too, and what no case of a unit shows.
    console
        Where to print; stdout by default, and where that is no terminal without colours and with
        each row on one line. Where the table does not fit, each unit is a block of lines.
    """
    console = console or _stdout()
    units = result["units"]
    culprits = set(result["culprits"])
    listed = [
        unit
        for unit in units
        if show_all or unit["verdict"] != Verdict.PASS or unit["name"] in culprits
    ]
    console.print()
    if listed:
        table = _table(listed)
        wide = console.options.update_width(_UNWRAPPED)
        if console.measure(table, options=wide).maximum <= console.width:
            console.print(table)
        else:
            _print_blocks(listed, console)
    hidden = len(units) - len(listed)
    if listed and hidden:
        command = f"relax-tapml report {shlex.quote(str(out))} --all"
        _print(console, f"({hidden} more pass; {command} lists them)", indent="  ")
    if show_all:
        for told in filter(None, map(unseen_text, listed)):
            _print(console, told, indent="  ")
    if listed:
        console.print()
    _print_transfers(result, console)
    for sentence in _sentences(result, out):
        _print(console, sentence)
    for row in dim_rows(result) if show_all else ():
        _print(console, f"{row.name} = {row.value}: {row.text}.", indent="  ")
    for label, command in _next(result, out):
        # Never wrapped: a command is copied as a whole.
        console.print(plain(f"{label:<8}{command}"), soft_wrap=True)


def _stdout() -> Console:
    console = console_of()
    return console if console.is_terminal else console_of(width=_UNWRAPPED)


def _table(units: Sequence[Mapping[str, Any]]) -> Table:
    has_origins = any(unit.get("origin") for unit in units)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("  unit", no_wrap=True)
    if has_origins:
        table.add_column("origin", no_wrap=True)
    for name in ("sites", "error", "tolerance"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("verdict", no_wrap=True)
    for unit in units:
        cells = [plain(f"  {unit['name']}")]
        if has_origins:
            cells.append(plain(unit.get("origin") or "-"))
        cells += [
            plain(str(unit["sites"])),
            plain(number_text(unit.get("error"))),
            plain(number_text(unit.get("tolerance"))),
            _verdict(unit),
        ]
        table.add_row(*cells)
    return table


def _print_blocks(units: Sequence[Mapping[str, Any]], console: Console) -> None:
    for unit in units:
        console.print(Text.assemble(plain(f"{unit['name']}  "), _verdict(unit)), overflow="fold")
        if unit.get("origin"):
            console.print(plain(f"  origin {unit['origin']}"), overflow="fold")
        error, tolerance = number_text(unit.get("error")), number_text(unit.get("tolerance"))
        numbers = f"  {count_text(unit['sites'], 'site')}, error {error}, tolerance {tolerance}"
        console.print(plain(numbers), overflow="fold")


def _print_transfers(result: Mapping[str, Any], console: Console) -> None:
    """Print what crossed to and from the device, stage by stage, and how long devices were at it.

    Of a run that was resumed, what earlier ones did is counted, except in the last line.
    """
    devices = [one for one in (result.get("devices") or {}).values() if "traffic" in one]
    steps = [step for step in result["steps"] if "bytes_to_device" in step]
    rows = []
    if devices:
        sent, fetched = (
            sum(one["traffic"][way] for one in devices) for way in ("to_device", "to_host")
        )
        rows.append(("replay", sent, fetched, sum(one.get("seconds", 0.0) for one in devices)))
    if steps:
        sent = sum(step["bytes_to_device"] for step in steps)
        fetched = sum(step["bytes_moved"] for step in steps) - sent
        told = f"migrate, {count_text(len(steps), 'step')}"
        spent = sum(step["seconds"].get(part) or 0.0 for step in steps for part in ("shift", "run"))
        rows.append((told, sent, fetched, spent))
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("  transfers", no_wrap=True)
    for name in ("to the device", "to the host", "time"):
        table.add_column(name, no_wrap=True, justify="right")
    for name, sent, fetched, seconds in rows:
        table.add_row(f"  {name}", size_text(sent), size_text(fetched), seconds_text(seconds))
    table.add_row("  this run", "", "", seconds_text(result["seconds"].get("total")))
    console.print(table)
    console.print()


def _verdict(unit: Mapping[str, Any]) -> Text:
    open_ends = dict.fromkeys((Verdict.SKIPPED, Verdict.INCONCLUSIVE), "yellow")
    style = {Verdict.PASS: "green", **open_ends}.get(unit["verdict"], "bold red")
    return plain(verdict_text(unit), style=style)


def _sentences(result: Mapping[str, Any], out: Path) -> list[str]:
    culprits = set(result["culprits"])
    explained = [
        unit
        for unit in result["units"]
        if unit["name"] in culprits
        # One that was not judged has no device, and the reason of the run to explain it.
        or (unit["verdict"] == Verdict.INCONCLUSIVE and unit.get("device"))
    ]
    said = [headline(result), *(explain(unit) for unit in explained[:_EXPLAINED_AT_MOST])]
    if len(explained) > _EXPLAINED_AT_MOST:
        said.append(f"The report explains the other {len(explained) - _EXPLAINED_AT_MOST}.")
    about_pipeline = pipeline_text(result)
    if about_pipeline:
        said.append(about_pipeline)
    said += open_end(result)
    said += power_sentences(result)
    said += precision_text(result["units"])
    said += suspicions(result.get("devices") or {})
    agreed = agreement_text(result)
    if agreed:
        said.append(agreed)
    said += notes(result)
    check = result.get("import_check")
    warning = (result.get("import") or {}).get("warning")
    if warning:
        said.append(f"Warning: {warning.rstrip('.')}.")
    elif check and check["verdict"] != Verdict.PASS:
        said.append(
            f"The source does not agree with the framework: max abs "
            f"{number_text(check['max_abs'])}, "
            f"{tolerance_text(check['tolerance'], check.get('tolerance_origin'))}."
        )
    dims = dims_text(result)
    if dims:
        said.append(dims)
    if result["skipped"]:
        said.append(
            f"{count_text(len(result['skipped']), 'site')} skipped, so nothing is claimed about "
            "them; the report gives the reasons."
        )
    culprits = {name for name in culprits if not is_pass(name)}
    if culprits and (out / "bundle").is_dir():
        accused = [unit for unit in explained if unit["name"] in culprits]
        kept = [unit["name"] for unit in accused if not unit.get("on_device")]
        if len(kept) == len(culprits):
            what = "this unit" if len(kept) == 1 else "these units"
        else:
            what = ", ".join(kept)
        said.append(f"{out / 'bundle'} keeps {what} on the host.")
    return said


def _next(result: Mapping[str, Any], out: Path) -> list[tuple[str, str]]:
    lines = [("Report:", str(out / "report.html"))]
    pipeline = result.get("device_pipeline")
    # A pass object given from Python has no name a command could use.
    is_repeatable = not pipeline or ":" in pipeline
    if (out / "tests").is_dir() and is_repeatable:
        command = ["pytest", str(out / "tests")]
        for option in ("target", "session", "device_pipeline"):
            if result.get(option):
                command += [f"--tapml-{option.replace('_', '-')}", str(result[option])]
        wrong = [name for name in result["culprits"] if not is_pass(name)]
        if 0 < len(wrong) <= _EXPLAINED_AT_MOST:
            command += ["-k", " or ".join(wrong)]
        lines.append(("Next:", shlex.join(command)))
    return lines


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
