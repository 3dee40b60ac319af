from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relax_tapml.compare.comparison import compare
from relax_tapml.report._error_picture import ErrorPicture, lay_out_errors
from relax_tapml.results.error_map_result import ErrorMapResult


def map_of(oracle: np.ndarray, actual: np.ndarray) -> ErrorMapResult:
    found = ErrorMapResult.of(compare(oracle, actual).error_map)
    assert found is not None
    return found


def drawn(found: ErrorMapResult) -> ErrorPicture:
    picture = lay_out_errors(found)
    assert picture is not None
    return picture


def test_wrong_places_are_cells_with_their_indices() -> None:
    """The darkest where all values are wrong, and one wrong value of many is still seen."""
    oracle = np.zeros((3, 64, 128), dtype="float32")
    actual = oracle.copy()
    actual[:, 10:12, 4:8] = 1
    actual[2, 63, 127] = np.nan
    picture = drawn(map_of(oracle, actual))
    assert [(cell.title, cell.level) for cell in picture.cells] == [
        ("axis 1 at 10-11, axis 2 at 4-7: 24 wrong values", 6),
        ("axis 1 at 62-63, axis 2 at 124-127: 1 wrong value", 4),
    ]
    assert picture.columns_text == "axis 2: 128, 4 to a cell"
    assert picture.rows_text == "axis 1: 64, 2 to a cell"
    assert "A place stands for 3 values" in picture.caption
    assert "25 wrong values in 2 of 1024 cells" in picture.summary
    assert "1 of them NaN or infinite" in picture.summary


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (5, 1), (2000, 3), (3, 2000), (40, 40)])
def test_pictures_of_any_shape_are_small(shape: tuple[int, ...]) -> None:
    oracle = np.zeros(shape, dtype="float32")
    picture = drawn(map_of(oracle, oracle + 1))
    assert picture.width <= 320.5
    assert picture.height <= 320.5
    assert {cell.level for cell in picture.cells} == {6}
    assert 0 < len(picture.bars) <= 24


def test_bars_are_right_and_wrong_on_their_side_of_the_tolerance() -> None:
    oracle = np.ones(100, dtype="float32")
    actual = oracle.copy()
    actual[:3] += 1e-7
    actual[3] += 1
    picture = drawn(map_of(oracle, actual))
    assert [bar.is_wrong for bar in picture.bars] == [False, False, True]
    for bar in picture.bars:
        assert (bar.x >= picture.tolerance_x) == bar.is_wrong


@pytest.mark.parametrize(
    "change",
    [
        {"wrong": ()},
        {"wrong": ((1, 2), (3,))},
        {"wrong": ((1,) * 33,)},
        {"ratios": (1,)},
        {"axes": (0, 7)},
        {"shape": (2,) * 10_000},
        {"bin_sizes": (0, 1)},
    ],
)
def test_a_damaged_map_has_no_picture(change: dict[str, object]) -> None:
    found = map_of(np.zeros((2, 2)), np.ones((2, 2)))
    assert lay_out_errors(replace(found, **change)) is None  # type: ignore[arg-type]
