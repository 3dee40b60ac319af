from __future__ import annotations

from dataclasses import replace

import pytest
from made_results import run_of, step, unit

from relax_tapml.report._boundary_path import BoundaryPath, lay_out_path
from relax_tapml.results.run_result import RunResult


def run(boundaries: list[list[str]], units: list[str]) -> RunResult:
    return run_of([unit(name) for name in units], steps=tuple(map(step, boundaries)))


def stays(path: BoundaryPath) -> dict[str, list[tuple[int, int]]]:
    return {row.unit: [(r.first, r.last) for r in row.runs] for row in path.rows}


def test_stays_are_the_boundaries() -> None:
    """A unit that returns to the host and comes again has two stays."""
    path = lay_out_path(run([["a"], ["a", "b"], ["b"], ["a", "b"]], ["b", "a", "c"]))
    assert stays(path) == {"a": [(1, 2), (4, 4)], "b": [(2, 4)], "c": []}


def test_rows_follow_the_order_of_arrival() -> None:
    """Units that never reach the device come last, in the order of the model."""
    path = lay_out_path(run([["c"], ["c", "a"]], ["d", "b", "a", "c"]))
    assert [row.unit for row in path.rows] == ["c", "a", "d", "b"]


def test_a_moved_unit_outside_the_boundary_has_its_failing_cell() -> None:
    """A unit whose kernel cannot be built never was on the device, but its step is marked."""
    result = run([["a"]], ["a", "b"])
    failed = step(["a"], "build_error", unit="b", reason="no kernel")
    path = lay_out_path(replace(result, steps=(*result.steps, failed)))
    (failure,) = path.failures
    row = next(row for row in path.rows if row.unit == "b")
    assert (failure.step, failure.cell_y, failure.reason) == (2, row.y, "no kernel")


@pytest.mark.parametrize("count", [1, 26, 150, 600])
def test_cells_tile_the_picture(count: int) -> None:
    """Columns and rows lie side by side inside the picture and labels keep their size."""
    names = [f"fused_matmul_add{i}" for i in range(count)]
    path = lay_out_path(run([names[: i + 1] for i in range(count)], names))
    assert path.cell_width >= 5
    assert path.font_size >= 9
    assert path.row_height > path.font_size
    last = path.rows[-1].runs[0]
    assert last.x + last.width <= path.width
    assert path.rows[-1].y + path.row_height <= path.height
    gaps = {b - a for (_, a), (_, b) in zip(path.ticks[1:], path.ticks[2:], strict=False)}
    assert all(gap >= 22 for gap in gaps)


def test_no_steps() -> None:
    path = lay_out_path(run([], ["a"]))
    assert (path.failures, path.ticks, stays(path)) == ((), (), {"a": []})
