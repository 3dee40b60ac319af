"""The picture of wrong values: a heat map by place, and a histogram by size of error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from relax_tapml.compare.error_map import MOST_BINS, RATIO_EDGES
from relax_tapml.report.quantities import count_text
from relax_tapml.results.error_map_result import ErrorMapResult

_SIDE = 320.0  # of the heat map at most, in pixels
_MOST_CELL = 20.0
_HISTOGRAM = (320.0, 130.0)
_LEVELS = 6
_MOST_AXES = 32
_WITHIN = RATIO_EDGES.index(1.0)


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """One bin with wrong values; ``level`` is 1 for few of its values and 6 for all of them."""

    x: float
    y: float
    level: int
    title: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bin of the histogram."""

    x: float
    y: float
    width: float
    height: float
    is_wrong: bool
    title: str


@dataclass(frozen=True, kw_only=True)
class ErrorPicture:
    """Both pictures in pixels.

    Parameters
    ----------
    cells, cell_width, cell_height, width, height
        The heat map; no cells where the tensor is a single value.
    bars, histogram_width, histogram_height, tolerance_x, marks
        The histogram; the last two are where the tolerance is, and labels with their places.
    caption, summary
        What the heat map shows, and all of it in words.
    """

    cells: tuple[HeatCell, ...]
    cell_width: float
    cell_height: float
    width: float
    height: float
    rows_text: str
    columns_text: str
    bars: tuple[Bar, ...]
    histogram_width: float
    histogram_height: float
    tolerance_x: float
    marks: tuple[tuple[str, float], ...]
    caption: str
    summary: str


def lay_out_errors(found: ErrorMapResult) -> ErrorPicture | None:
    """Place the bins of a map; None for one that is damaged."""
    rows, columns = len(found.wrong), max((len(row) for row in found.wrong), default=0)
    is_known = (
        0 < rows <= MOST_BINS
        and 0 < columns <= MOST_BINS
        and all(len(row) == columns for row in found.wrong)
        and len(found.ratios) == len(RATIO_EDGES) + 1
        and len(found.axes) == len(found.bin_sizes) <= 2
        and len(found.shape) <= _MOST_AXES
        and all(axis < len(found.shape) for axis in found.axes)
        and all(found.bin_sizes)
    )
    if not is_known:
        return None
    side = min(_SIDE / max(rows, columns), _MOST_CELL)
    cell_width = cell_height = side
    if columns == 1 or rows == 1:  # A strip: as wide as there is room, high enough to be seen.
        cell_width = _SIDE / columns if columns > 1 else _MOST_CELL
        cell_height = _MOST_CELL if rows == 1 else side
    extents = _extents(found, rows, columns)
    cells = tuple(
        HeatCell(
            x=column * cell_width,
            y=row * cell_height,
            level=_level(count, extents[0][row][1] * extents[1][column][1] * extents[2]),
            title=_cell_title(found, extents[0][row], extents[1][column], count),
        )
        for row, counts in enumerate(found.wrong)
        for column, count in enumerate(counts)
        if count
    )
    bars, tolerance_x, marks = _histogram(found)
    return ErrorPicture(
        cells=cells,
        cell_width=cell_width,
        cell_height=cell_height,
        width=columns * cell_width,
        height=rows * cell_height,
        rows_text=_axis_text(found, -2),
        columns_text=_axis_text(found, -1),
        bars=bars,
        histogram_width=_HISTOGRAM[0],
        histogram_height=_HISTOGRAM[1],
        tolerance_x=tolerance_x,
        marks=marks,
        caption=_caption(found, extents[2]),
        summary=_summary(found),
    )


def _extents(
    found: ErrorMapResult, rows: int, columns: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """Return first place and size of each bin of both axes, and how many values share a place."""
    sizes = [found.shape[axis] for axis in found.axes]
    padded = [(1, 1)] * (2 - len(sizes)) + list(zip(sizes, found.bin_sizes, strict=True))
    spans = []
    for (size, each), count in zip(padded, (rows, columns), strict=True):
        spans.append([(n * each, max(1, min(each, size - n * each))) for n in range(count)])
    others = math.prod(found.shape) // max(1, math.prod(sizes))
    return spans[0], spans[1], max(1, others)


def _level(count: int, values: int) -> int:
    """Return 1 to 6 for the share of wrong values, a factor of four apart, so that one is seen."""
    share = min(count / values, 1.0)
    return max(1, _LEVELS + math.ceil(math.log(share, 4) - 1e-9)) if share > 0 else 1


def _axis_text(found: ErrorMapResult, which: int) -> str:
    if len(found.axes) < -which:
        return ""
    axis = found.axes[which]
    each = found.bin_sizes[which]
    bins = f", {each} to a cell" if each > 1 else ""
    return f"axis {axis}: {found.shape[axis]}{bins}"


def _place_text(axis: int, span: tuple[int, int]) -> str:
    first, size = span
    return f"axis {axis} at {first}" if size == 1 else f"axis {axis} at {first}-{first + size - 1}"


def _cell_title(
    found: ErrorMapResult, row: tuple[int, int], column: tuple[int, int], count: int
) -> str:
    spans = (row, column)[2 - len(found.axes) :]
    places = [_place_text(axis, span) for axis, span in zip(found.axes, spans, strict=True)]
    return f"{', '.join(places)}: {count_text(count, 'wrong value')}"


def _caption(found: ErrorMapResult, others: int) -> str:
    shape = "x".join(map(str, found.shape)) or "a single value"
    text = f"Shape {shape}."
    if others > 1:
        text += f" A place stands for {others} values, along all other axes."
    return text


def _summary(found: ErrorMapResult) -> str:
    wrong = sum(map(sum, found.wrong))
    bins = sum(len(row) for row in found.wrong)
    hit = sum(count > 0 for row in found.wrong for count in row)
    rows = sum(any(row) for row in found.wrong)
    columns = sum(any(column) for column in zip(*found.wrong, strict=True))
    text = f"{count_text(wrong, 'wrong value')} in {hit} of {count_text(bins, 'cell')}"
    if bins > 1 and len(found.axes) == 2:
        text += (
            f", in {rows} of {count_text(len(found.wrong), 'row')}"
            f" and {columns} of {count_text(len(found.wrong[0]), 'column')}"
        )
    if found.nonfinite:
        text += f"; {found.nonfinite} of them NaN or infinite on one side"
    return f"{text}."


def _histogram(
    found: ErrorMapResult,
) -> tuple[tuple[Bar, ...], float, tuple[tuple[str, float], ...]]:
    """Return the bars: exact values, each bin of ratios, values that are not finite; with gaps."""
    counts: list[tuple[str, int, bool]] = [("no error", found.exact, False), ("", 0, False)]
    for number, count in enumerate(found.ratios):
        counts.append((f"error {_ratio_text(number)} the tolerance", count, number > _WITHIN))
    counts += [("", 0, True), ("NaN or infinite on one side", found.nonfinite, True)]
    width, height = _HISTOGRAM
    pitch = width / len(counts)
    scale = math.log10(1 + max(count for _, count, _ in counts))
    bars = []
    for number, (what, count, is_wrong) in enumerate(counts):
        if not count:
            continue
        tall = max(height * math.log10(1 + count) / scale, 2.0)
        bars.append(
            Bar(
                x=number * pitch + 0.5,
                y=height - tall,
                width=pitch - 1,
                height=tall,
                is_wrong=is_wrong,
                title=f"{count_text(count, 'value')}: {what}",
            )
        )
    tolerance_x = (_WITHIN + 3) * pitch
    labels = (("equal", 0.0), ("1e-3", _edge_x(1e-3, pitch)), ("1", tolerance_x))
    marks = (*labels, ("1e3", _edge_x(1e3, pitch)), ("NaN", width))
    return tuple(bars), tolerance_x, marks


def _edge_x(ratio: float, pitch: float) -> float:
    nearest = min(range(len(RATIO_EDGES)), key=lambda n: abs(math.log(RATIO_EDGES[n] / ratio)))
    return (nearest + 3) * pitch


def _ratio_text(number: int) -> str:
    edges: Sequence[float] = RATIO_EDGES
    if number == 0:
        return f"up to {edges[0]:.2g} times"
    if number == len(edges):
        return f"more than {edges[-1]:.2g} times"
    return f"{edges[number - 1]:.2g} to {edges[number]:.2g} times"
