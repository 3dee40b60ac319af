"""Several suites on several targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relax_tapml.compare.verdict import Verdict, exit_code_of
from relax_tapml.errors import DeviceUnavailable, ExitCode, UsageError
from relax_tapml.replays.replay import replay
from relax_tapml.replays.results import replay_result
from relax_tapml.results.matrix_result import CellResult, Column, MatrixResult
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.open_session import check_session
from relax_tapml.targets.platforms.parse_target import parse_target


def replay_matrix(
    suites: Sequence[Path],
    columns: Sequence[Column],
    *,
    on_cell: Callable[[CellResult], None] = lambda _: None,
    **options: Any,
) -> MatrixResult:
    """Replay suites on targets, one after another.

    A target that cannot be reached does not keep the others from being tried, and is not tried
    again for the next suite.

    Parameters
    ----------
    suites
        As for ``replay``.
    columns
        Targets and their sessions, each once.
    on_cell
        Called after each suite on each target.
    options
        Other options of ``replay``, for all.

    Raises
    ------
    UsageError
        A target or session is not known, or something is named twice.
    StoreError
        A suite is damaged; nothing has run.
    """
    for items, what in ((suites, "suite"), (columns, "--on")):
        if len(set(items)) < len(items):
            raise UsageError(f"each {what} may be given once")
    for column in columns:
        check_session(column.session, parse_target(column.target))
    for suite in suites:
        open_suite(suite, trust=options.get("trust", False))
    cells: dict[tuple[Path, Column], CellResult] = {}
    for column in columns:
        unreachable = ""
        for suite in suites:
            cell = _cell(suite, column, unreachable, options)
            unreachable = cell.reason
            cells[suite, column] = cell
            on_cell(cell)
    in_rows = tuple(cells[suite, column] for suite in suites for column in columns)
    return MatrixResult(
        suites=tuple(map(str, suites)),
        targets=tuple(columns),
        cells=in_rows,
        exit_code=exit_code_of(
            [
                *(unit.verdict for cell in in_rows for unit in cell.units),
                *(Verdict.INCONCLUSIVE for cell in in_rows if not cell.passed),
            ]
        ),
    )


def _cell(suite: Path, column: Column, unreachable: str, options: dict[str, Any]) -> CellResult:
    cell = CellResult(
        suite=str(suite),
        target=column.target,
        session=column.session,
        exit_code=ExitCode.INCONCLUSIVE,
        reason=unreachable,
    )
    if unreachable:
        return cell
    try:
        report = replay(suite, target=column.target, session=column.session, **options)
    except DeviceUnavailable as error:
        return replace(cell, reason=str(error))
    result = replay_result(report)
    return replace(
        cell,
        exit_code=report.exit_code,
        passed=sum(unit.verdict is Verdict.PASS for unit in result.units),
        units=result.units,
        devices=result.devices,
    )
