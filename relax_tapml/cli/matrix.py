"""Several suites on several targets, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relax_tapml.cli.console import console_of, plain
from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.findings import suspicions, unjudged_text
from relax_tapml.report.quantities import count_text
from relax_tapml.results.replay_document import report_document

if TYPE_CHECKING:
    from relax_tapml.replay.matrix import Cell, Column, Matrix

_UNWRAPPED = 100_000


def matrix_document(matrix: Matrix) -> dict[str, Any]:
    """Return a matrix as JSON: a cell for each suite and target, suite by suite."""
    cells = []
    for suite in matrix.suites:
        for column in matrix.columns:
            cell = matrix.cells[suite, column]
            report: Mapping[str, Any] = (
                {"units": [], "devices": {}}
                if cell.report is None
                else report_document(cell.report)
            )
            cells.append(
                {
                    "suite": str(suite),
                    "target": column.target,
                    "session": column.session,
                    "exit_code": int(cell.exit_code),
                    "reason": cell.reason,
                    "passed": cell.passed,
                    "units": report.get("units", []),
                    "devices": report.get("devices", {}),
                }
            )
    return {
        "schema": 1,
        "suites": [str(suite) for suite in matrix.suites],
        "targets": [{"target": c.target, "session": c.session} for c in matrix.columns],
        "cells": cells,
        "exit_code": int(matrix.exit_code),
    }


def print_matrix(matrix: Matrix, console: Console | None = None) -> None:
    """Print a matrix for people, then why a target could not be reached or a unit is wrong.

    A row for each suite, and one for each of its units that does not pass everywhere.
    """
    console = console or console_of()
    if not console.is_terminal:
        console.width = _UNWRAPPED
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("suite", no_wrap=True)
    for name in _headings(matrix).values():
        table.add_column(plain(name), no_wrap=True)
    for suite in matrix.suites:
        cells = [matrix.cells[suite, column] for column in matrix.columns]
        table.add_row(plain(str(suite)), *map(_summary, cells))
        for unit in matrix.wrong_units(suite):
            table.add_row(plain(f"  {unit}"), *(_verdict(cell, unit) for cell in cells))
    if len(matrix.suites) > 1:
        table.add_row(plain("total"), *(_total(matrix, column) for column in matrix.columns))
    console.print(table)
    for line in _explained(matrix):
        console.print(plain(line), soft_wrap=True)


def _headings(matrix: Matrix) -> dict[Column, str]:
    """Return a name for each column: its target, with the session where that is needed."""
    targets = [column.target for column in matrix.columns]
    return {
        column: column.target
        if targets.count(column.target) == 1
        else f"{column.target} {column.session}"
        for column in matrix.columns
    }


def _summary(cell: Cell) -> Text:
    if cell.report is None:
        return plain("unreachable", style="yellow")
    is_good = cell.exit_code == 0
    return plain(f"{cell.passed} of {len(cell.report.units)}", style="green" if is_good else "red")


def _verdict(cell: Cell, unit: str) -> Text:
    verdict = None if cell.report is None else cell.report.units.get(unit)
    if verdict is None:
        return plain("-")
    open_ends = dict.fromkeys((Verdict.SKIPPED, Verdict.INCONCLUSIVE), "yellow")
    style = {Verdict.PASS: "green", **open_ends}.get(verdict, "bold red")
    return plain(str(verdict), style=style)


def _total(matrix: Matrix, column: Column) -> Text:
    cells = [matrix.cells[suite, column] for suite in matrix.suites]
    reports = [cell.report for cell in cells if cell.report is not None]
    if not reports:
        return plain("-")
    units = sum(len(report.units) for report in reports)
    return plain(f"{sum(cell.passed for cell in cells)} of {units}")


def _explained(matrix: Matrix) -> list[str]:
    lines = []
    names = _headings(matrix)
    for column in matrix.columns:
        cells = {suite: matrix.cells[suite, column] for suite in matrix.suites}
        lost = [cell.reason for cell in cells.values() if cell.reason]
        if lost:
            suites = "" if len(lost) == len(cells) else f" ({count_text(len(lost), 'suite')})"
            lines.append(f"{names[column]}: unreachable{suites}: {lost[0]}")
        for suite, cell in cells.items():
            if cell.report is None:
                continue
            unjudged = cell.report.unjudged
            for unit, detail in cell.report.details.items():
                if unit in matrix.wrong_units(suite) and detail.reason and unit not in unjudged:
                    told = f"{detail.verdict}: {detail.reason}"
                    lines.append(f"{names[column]}: {suite}: {unit}: {told}")
            records = {name: asdict(record) for name, record in cell.report.devices.items()}
            lines += [f"{names[column]}: {suite}: {said}" for said in suspicions(records)]
            if unjudged:
                told = unjudged_text(unjudged, cell.report.unavailable)
                lines.append(f"{names[column]}: {suite}: {told}")
    return lines
