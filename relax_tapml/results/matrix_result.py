"""What a replay of several suites on several targets found: ``relax-tapml replay --json``."""

from __future__ import annotations

from dataclasses import dataclass, field

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.json_codec import Count
from relax_tapml.results.unit_result import ReplayedUnit


@dataclass(frozen=True, kw_only=True)
class Column:
    """A target as text, and the session that it is in."""

    target: str
    session: str


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One suite on one target.

    Parameters
    ----------
    suite, target, session
        As they were given.
    exit_code
        What ``relax-tapml replay`` would end with.
    reason
        Why the suite could not be replayed there; empty if it was.
    passed
        How many units pass.
    units, devices
        As in ``ReplayResult``.
    """

    suite: str
    target: str
    session: str
    exit_code: ExitCode
    reason: str = ""
    passed: Count = 0
    units: tuple[ReplayedUnit, ...] = ()
    devices: dict[str, DeviceResult] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MatrixResult:
    """Several suites on several targets.

    Parameters
    ----------
    schema
        Of the document.
    suites
        Its rows.
    targets
        Its columns.
    cells
        Row by row.
    exit_code
        1 if a unit is wrong anywhere; 3 if one is inconclusive, or no unit of a cell passes;
        otherwise 0.
    """

    schema: int = 2
    suites: tuple[str, ...]
    targets: tuple[Column, ...]
    cells: tuple[CellResult, ...]
    exit_code: ExitCode

    def row(self, suite: str) -> list[CellResult]:
        """Return the cells of a suite, in the order of the targets."""
        return [cell for cell in self.cells if cell.suite == suite]

    def column(self, column: Column) -> list[CellResult]:
        """Return the cells of a target, in the order of the suites."""
        where = (column.target, column.session)
        return [cell for cell in self.cells if (cell.target, cell.session) == where]

    def wrong_units(self, suite: str) -> list[str]:
        """Return the units of a suite that do not pass on some target, in its order."""
        is_wrong: dict[str, bool] = {}
        for cell in self.row(suite):
            for unit in cell.units:
                is_right = unit.verdict in (Verdict.PASS, Verdict.SKIPPED)
                is_wrong[unit.name] = is_wrong.get(unit.name, False) or not is_right
        return [name for name, wrong in is_wrong.items() if wrong]
