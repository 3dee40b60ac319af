"""Several suites on several targets, as a table for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relax_tapml.cli.console import console_of, plain
from relax_tapml.cli.present import verdict_cell
from relax_tapml.errors import ExitCode
from relax_tapml.report.findings import reasons, suspicions
from relax_tapml.report.quantities import count_text
from relax_tapml.results.matrix_result import CellResult, Column, MatrixResult

_UNWRAPPED = 100_000


def print_matrix(matrix: MatrixResult, console: Console | None = None) -> None:
    """Print a matrix for people, then why a target could not be reached or a unit is wrong.

    A row for each suite, and one for each of its units that does not pass everywhere.
    """
    console = console or console_of()
    if not console.is_terminal:
        console.width = _UNWRAPPED
    headings = _headings(matrix)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("suite", no_wrap=True)
    for heading in headings.values():
        table.add_column(plain(heading), no_wrap=True)
    for suite in matrix.suites:
        cells = matrix.row(suite)
        table.add_row(plain(suite), *map(_summary, cells))
        for unit in matrix.wrong_units(suite):
            table.add_row(plain(f"  {unit}"), *(_verdict(cell, unit) for cell in cells))
    if len(matrix.suites) > 1:
        totals = (_total(matrix.column(column)) for column in matrix.targets)
        table.add_row(plain("total"), *totals)
    console.print(table)
    for column, heading in headings.items():
        for line in _explained(matrix, column):
            console.print(plain(f"{heading}: {line}"), soft_wrap=True)


def _headings(matrix: MatrixResult) -> dict[Column, str]:
    """Return a name for each column: its target, with the session where that is needed."""
    targets = [column.target for column in matrix.targets]
    return {
        column: column.target
        if targets.count(column.target) == 1
        else f"{column.target} {column.session}"
        for column in matrix.targets
    }


def _summary(cell: CellResult) -> Text:
    if cell.reason:
        return plain("unreachable", style="yellow")
    is_good = cell.exit_code is ExitCode.PASS
    return plain(f"{cell.passed} of {len(cell.units)}", style="green" if is_good else "red")


def _verdict(cell: CellResult, name: str) -> Text:
    unit = next((unit for unit in cell.units if unit.name == name), None)
    return plain("-") if unit is None else verdict_cell(unit.verdict, str(unit.verdict))


def _total(cells: list[CellResult]) -> Text:
    replayed = [cell for cell in cells if not cell.reason]
    if not replayed:
        return plain("-")
    units = sum(len(cell.units) for cell in replayed)
    return plain(f"{sum(cell.passed for cell in replayed)} of {units}")


def _explained(matrix: MatrixResult, column: Column) -> list[str]:
    lines = []
    cells = matrix.column(column)
    lost = [cell.reason for cell in cells if cell.reason]
    if lost:
        suites = "" if len(lost) == len(cells) else f" ({count_text(len(lost), 'suite')})"
        lines.append(f"unreachable{suites}: {lost[0]}")
    for cell in cells:
        wrong = matrix.wrong_units(cell.suite)
        named = [unit for unit in cell.units if unit.name in wrong and unit.reason]
        lines += [f"{cell.suite}: {line}" for line in (*reasons(named), *suspicions(cell.devices))]
    return lines
