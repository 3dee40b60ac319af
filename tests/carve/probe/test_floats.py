"""Floats in another order or at another scale, also of tensors that are worked on in parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_tapml.carve.probe import _floats


@settings(deadline=None)
@given(st.integers(0, 2000) | st.sampled_from([64, 640]), st.integers(0, 9))
def test_every_value_is_kept_and_most_move(size, seed):
    flat = np.arange(size, dtype="float32")
    flat.flags.writeable = False  # as tensors that are mapped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_floats, "_PART", 64)
        moved, again = (_floats._shuffled(flat, np.random.default_rng(seed)) for _ in range(2))
    assert sorted(moved) == sorted(flat)
    assert (moved == again).all()
    if size > 1000:
        assert (moved == flat).mean() < 0.1
        assert (np.abs(moved - flat) > 64).mean() > 0.5, "values stay in their parts"


@settings(deadline=None)
@given(st.integers(0, 300), st.sampled_from(["float16", "float32", "float64"]))
def test_parts_change_no_scaled_value(size, dtype):
    array = np.random.default_rng(size).standard_normal(size).astype(dtype)
    array[::7] = np.inf
    array[1::7] = -1e30 if dtype != "float16" else -60000
    whole = _floats.times(array, 7.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_floats, "_PART", 16)
        parts = _floats.times(array, 7.3)
    np.testing.assert_array_equal(parts, whole)
    assert np.isinf(whole[::7]).all()
