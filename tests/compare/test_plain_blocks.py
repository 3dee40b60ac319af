"""Blocks that are the same on both sides are compared with less work, and the same outcome."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.metrics import block
from relax_tapml.compare.metrics._plain_blocks import PlainBlocks
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance

DTYPES = ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "int32"]
EQUAL = EqualTolerance(origin="test")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(block, "BLOCK_VALUES", 4)


def _array(values, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, "float64").astype(getattr(ml_dtypes, dtype, dtype))


@given(
    dtype=st.sampled_from(DTYPES),
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, -2.0, 100.0]), min_size=1, max_size=20),
    changed=st.sets(st.integers(0, 19), max_size=3),
)
def test_metrics_are_those_of_all_values(dtype, values, changed):
    """Whichever blocks differ, before and after others that do not."""
    oracle = _array(values, dtype)
    actual = oracle.copy()
    for place in changed:
        if place < len(values):
            actual[place] = actual[place] + actual.dtype.type(1)
    found = compare(oracle, actual, EQUAL)
    x, y = oracle.astype("float64"), actual.astype("float64")
    assert found.mismatches == np.count_nonzero(x != y)
    assert found.max_abs == np.abs(x - y).max()
    if dtype == "int32":
        return
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    assert found.cosine == (pytest.approx(x @ y / lengths, abs=1e-12) if lengths else None)
    noise = np.linalg.norm(x - y)
    if not noise:
        assert found.snr_db == np.inf
    elif x.any():
        assert found.snr_db == pytest.approx(20 * np.log10(np.linalg.norm(x) / noise), abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES[:5])
@pytest.mark.parametrize("same", [True, False])
def test_values_at_the_limit_or_not_finite_are_counted(dtype, same):
    """Whether the block is the same on both sides or not, in its last value or the first."""
    info = ml_dtypes.finfo(getattr(ml_dtypes, dtype, dtype))
    for special in (float(info.max), float(info.min), np.inf, -np.inf, np.nan):
        oracle = _array([1, 2, 3, 4, 5, 6, 7, special], dtype)
        actual = oracle if same else np.append(oracle[:6], _array([8, special], dtype))
        metrics = compare(oracle, actual, EQUAL).metrics
        is_limit = int(abs(special) == float(info.max))
        is_nan = int(np.isnan(oracle[-1].astype("float64")))
        is_inf = int(np.isinf(oracle[-1].astype("float64")))
        assert metrics["saturation"] == {"expected": is_limit, "actual": is_limit}
        assert metrics["nonfinite"] == {
            "expected_nan": is_nan,
            "expected_inf": is_inf,
            "actual_nan": is_nan,
            "actual_inf": is_inf,
        }


@pytest.mark.parametrize("dtype", DTYPES[:5])
def test_bounds_below_zero_are_refused(dtype):
    """Negative zero and a NaN of either sign are none."""
    bound = _array([0.5, 0.0, -0.0, np.nan, 1.0], dtype)
    bound[3:4] = -bound[3:4]
    assert ElementTolerance(bound=bound, origin="test").part(slice(2, 5)).bound.size == 3
    bound[4] = -bound[4]
    with pytest.raises(ValueError, match="bound: expected at least 0, got"):
        ElementTolerance(bound=bound, origin="test")


def test_float64_copies_are_freed_once_squares_are_known():
    """Where a block that differs follows many that do not."""
    kept = PlainBlocks()
    values = np.ones(16, "float32")
    *same, last = block.blocks(values, np.append(values[:15], np.float32(2)), EQUAL)
    assert [due for one in same for due in kept.due(one)] == []
    for one in kept.due(last):
        assert one.squares == 4
    assert not any("wide_oracle" in one.__dict__ for one in same)
    assert all(one.__dict__["squares"] == 4 for one in same)
