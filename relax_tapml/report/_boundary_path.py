"""The picture of the path of the boundary: which units are on the device at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.run_result import RunResult

_WIDTH = 1176  # of the picture, labels included, where steps allow it
_CELL_WIDTHS = (5, 28)
_MANY_ROWS = 60
_AXIS_HEIGHT = 34


@dataclass(frozen=True, kw_only=True)
class Run:
    """A unit's uninterrupted stay on the device, steps ``first`` to ``last``, counted from 1."""

    first: int
    last: int
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One unit or site of the picture, in the order they first reach the device."""

    unit: str
    y: float
    runs: tuple[Run, ...]
    is_culprit: bool


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A step that did not pass; ``cell_y`` is the row of the unit moved in it, if it has one."""

    step: int
    x: float
    verdict: Verdict
    unit: str | None
    reason: str
    cell_y: float | None


@dataclass(frozen=True, kw_only=True)
class BoundaryPath:
    """The picture in pixels: unit labels, then one column per step."""

    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    ticks: tuple[tuple[int, float], ...]
    label_width: float
    cell_width: float
    row_height: float
    font_size: float
    axis_height: int
    width: float
    height: float


def lay_out_path(result: RunResult) -> BoundaryPath:
    """Place every unit and step of a run, which may have none."""
    steps = result.steps
    boundaries = [frozenset(step.boundary) for step in steps]
    order: dict[str, None] = {}
    for step in steps:
        order.update(dict.fromkeys(step.boundary))
        if step.unit:
            order.setdefault(step.unit)
    if result.by in ("unit", "kind"):
        order.update(dict.fromkeys(unit.name for unit in result.units))

    row_height, font_size = (15.0, 11.0) if len(order) <= _MANY_ROWS else (11.0, 9.0)
    label_width = max((len(name) for name in order), default=0) * font_size * 0.61 + 12
    low, high = _CELL_WIDTHS
    cell_width = float(min(max((_WIDTH - label_width) // max(len(steps), 1), low), high))

    def x_of(step: int) -> float:
        return label_width + (step - 1) * cell_width

    y_of = {name: _AXIS_HEIGHT + i * row_height for i, name in enumerate(order)}
    culprits = set(result.culprits)
    rows = tuple(
        Row(
            unit=name,
            y=y,
            is_culprit=name in culprits,
            runs=tuple(
                Run(
                    first=first,
                    last=last,
                    x=x_of(first),
                    width=(last - first + 1) * cell_width,
                )
                for first, last in _stays([name in boundary for boundary in boundaries])
            ),
        )
        for name, y in y_of.items()
    )
    failures = tuple(
        Failure(
            step=number,
            x=x_of(number),
            verdict=step.verdict,
            unit=step.unit,
            reason=step.reason,
            cell_y=y_of.get(step.unit or ""),
        )
        for number, step in enumerate(steps, 1)
        if step.verdict not in (Verdict.PASS, Verdict.INCONCLUSIVE)
    )
    every = next((k for k in (1, 2, 5, 10, 20, 50, 100, 1000) if k * cell_width >= 22), 10_000)
    ticks = tuple(
        (number, x_of(number) + cell_width / 2)
        for number in range(1, len(steps) + 1)
        if number % every == 0 or number == 1
    )
    return BoundaryPath(
        rows=rows,
        failures=failures,
        ticks=ticks,
        label_width=label_width,
        cell_width=cell_width,
        row_height=row_height,
        font_size=font_size,
        axis_height=_AXIS_HEIGHT,
        width=x_of(len(steps) + 1) + 12,
        height=_AXIS_HEIGHT + len(order) * row_height + 4,
    )


def _stays(on_device: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the first and last step, counted from 1, of each run of True."""
    stays = []
    for is_on, group in groupby(enumerate(on_device, 1), key=lambda pair: pair[1]):
        numbers = [number for number, _ in group]
        if is_on:
            stays.append((numbers[0], numbers[-1]))
    return stays
