"""Several suites on several targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, ExitCode, UsageError
from relax_tapml.replay.replay import ReplayReport, replay
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.open_session import check_session
from relax_tapml.targets.platforms.parse_target import parse_target


@dataclass(frozen=True, kw_only=True)
class Column:
    """A target, and where it is.

    Parameters
    ----------
    target
        As for ``replay``, as text.
    session
        As for ``open_session``.
    """

    target: str
    session: str

    @classmethod
    def parse(cls, text: str) -> Column:
        """Return what ``TARGET=SESSION`` names. Raises ``UsageError`` if it is something else."""
        target, equals, session = text.rpartition("=")
        if not equals or not target:
            raise UsageError(f"--on {text}: expected TARGET=SESSION, such as llvm=process")
        return cls(target=target, session=session)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One suite on one target.

    Parameters
    ----------
    report
        How it ended; None if it could not be run.
    reason
        Why it could not; empty if it was.
    """

    report: ReplayReport | None
    reason: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """That of the report; 3 without one."""
        return ExitCode.INCONCLUSIVE if self.report is None else self.report.exit_code

    @property
    def passed(self) -> int:
        """How many units pass."""
        units = {} if self.report is None else self.report.units
        return sum(verdict is Verdict.PASS for verdict in units.values())


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """How several suites ended on several targets.

    Parameters
    ----------
    suites
        Its rows, as they were given.
    columns
        Its columns.
    cells
        By row and column.
    """

    suites: tuple[Path, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[Path, Column], Cell]

    @property
    def exit_code(self) -> ExitCode:
        """1 if a unit is wrong anywhere, 3 if a cell is open, otherwise 0."""
        found = {cell.exit_code for cell in self.cells.values()}
        for code in (ExitCode.MISMATCH, ExitCode.INCONCLUSIVE):
            if code in found:
                return code
        return ExitCode.PASS

    def wrong_units(self, suite: Path) -> list[str]:
        """Return the units of a suite that do not pass on some target, in its order."""
        found: dict[str, bool] = {}
        for column in self.columns:
            report = self.cells[suite, column].report
            for unit, verdict in ({} if report is None else report.units).items():
                is_wrong = verdict not in (Verdict.PASS, Verdict.SKIPPED)
                found[unit] = found.get(unit, False) or is_wrong
        return [unit for unit, is_wrong in found.items() if is_wrong]


def replay_matrix(
    suites: Sequence[Path],
    columns: Sequence[Column],
    *,
    on_cell: Callable[[Path, Column, Cell], None] = lambda *_: None,
    **options: Any,
) -> Matrix:
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
    cells: dict[tuple[Path, Column], Cell] = {}
    for column in columns:
        unreachable = ""
        for suite in suites:
            cell = Cell(report=None, reason=unreachable)
            if not unreachable:
                cell = _replayed(suite, column, options)
                unreachable = cell.reason
            cells[suite, column] = cell
            on_cell(suite, column, cell)
    return Matrix(suites=tuple(suites), columns=tuple(columns), cells=cells)


def _replayed(suite: Path, column: Column, options: dict[str, Any]) -> Cell:
    try:
        report = replay(suite, target=column.target, session=column.session, **options)
    except DeviceUnavailable as error:
        return Cell(report=None, reason=str(error))
    return Cell(report=report)
