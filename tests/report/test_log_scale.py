from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.report._log_scale import LogScale

numbers = st.floats(min_value=0, exclude_min=True, allow_subnormal=False, allow_infinity=False)


@given(st.lists(numbers, min_size=1))
def test_positions_keep_order_and_stay_on_the_scale(values: list[float]) -> None:
    """A larger error never has a shorter bar."""
    scale = LogScale.spanning(values)
    places = [scale.position(v) for v in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= p <= 1 for p in places)
    assert 1 <= len(scale.decades(4)) <= 4


def test_values_without_a_place() -> None:
    """Zero, NaN and infinity neither stretch the scale nor fall off it."""
    scale = LogScale.spanning([0.0, None, math.nan, math.inf, 1e-6, 1e-4])
    assert (scale.low, scale.high) == (-6, -4)
    assert [scale.position(v) for v in (0.0, math.nan, math.inf, 1e-5)] == [0, 0, 1, 0.5]


def test_a_tiny_value_does_not_squeeze_the_others() -> None:
    scale = LogScale.spanning([1e-38, 1e-6, 1e-3])
    assert (scale.low, scale.high) == (-15, -3)
    assert scale.position(1e-38) == 0


def test_nothing_to_span() -> None:
    assert LogScale.spanning([]).position(1.0) == 1
