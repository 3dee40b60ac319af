"""From value and error to a bound."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from relax_tapml.compare.tolerances.elements import rounded_up
from relax_tapml.derive._precision import input_perturbation
from relax_tapml.derive.error_bounds import output_error_bounds

POSITIVE = st.floats(0, 1e30)


@given(arrays.arrays(np.float64, st.integers(0, 20), elements=POSITIVE))
def test_no_bound_becomes_smaller(bound):
    """And none grows by more than one step of 16 bits."""
    found = rounded_up(bound, np.dtype("float32"))
    assert found.dtype == ml_dtypes.bfloat16
    wide = found.astype(np.float64)
    assert (wide >= bound).all()
    assert (wide <= bound * (1 + 2**-6) + 1e-38).all()


def test_bounds_of_float64_keep_their_digits():
    """Sixteen bits do not reach as far."""
    bound = np.array([1e-300, 1e300])
    assert rounded_up(bound, np.dtype("float64")) is bound


def test_what_is_too_large_is_not_judged():
    """An infinite bound would hide everything."""
    found = rounded_up(np.array([np.inf, np.nan, 3.4e38]), np.dtype("float32"))
    assert np.isnan(found.astype(float)).all()


@pytest.mark.parametrize("shape", [(), (3,), (2, 0)])
def test_every_shape_is_kept(shape):
    """Also of scalars and empty arrays."""
    value = np.full(shape, 1.5)
    bound, excess = output_error_bounds(value, np.full(shape, 1e-3), value.astype(np.float32))
    assert bound.shape == shape
    assert excess == 0
    assert rounded_up(bound, np.dtype("float32")).shape == shape


def test_the_bound_reaches_from_the_oracle_to_the_farthest_legal_result():
    """Around an oracle that is off by 2, with an error of 1, up to 3 are allowed."""
    bound, excess = output_error_bounds(
        np.array([10.0]), np.array([1.0]), np.array([12.0], np.float32)
    )
    assert bound.item() == pytest.approx(3, rel=1e-6)
    assert excess == pytest.approx(2, rel=1e-6)


def test_infinities_that_exact_arithmetic_has_are_held():
    """Others are not judged; neither is an unbounded error."""
    inf, nan = np.inf, np.nan
    value = np.array([inf, -inf, 1.0, nan, nan, 1.0, 1e300])
    oracle = np.array([inf, -inf, inf, nan, 2.0, 1.0, inf], np.float32)
    error = np.array([0, 0, 0, nan, 0, inf, 0])
    bound, _ = output_error_bounds(value, error, oracle)
    np.testing.assert_array_equal(bound, [0, 0, nan, 0, nan, nan, 0])


def test_whole_numbers_and_bool():
    """A whole number may be off by its error; a bool that may be either is not judged."""
    bound, _ = output_error_bounds(np.array([3, 4]), np.array([0.0, 1.0]), np.array([3, 4]))
    np.testing.assert_array_equal(bound, [0, 1])
    bound, _ = output_error_bounds(
        np.array([True, False]), np.array([0.0, 1.0]), np.array([True, False])
    )
    np.testing.assert_array_equal(bound, [0, np.nan])


def test_inputs_move_by_one_unit_in_the_last_place():
    """Of float32; whole numbers, infinities and NaN stay."""
    x = np.array([1.5, -0.3, 2.0, 0.0, np.inf, np.nan, -3.4028235e38], np.float32)
    denormal = np.array([1e-39, -2e-40], np.float32)
    np.testing.assert_array_equal(input_perturbation(denormal), np.abs(denormal))
    assert input_perturbation(np.array([6e-8], np.float16)) == np.float32(
        np.float16(6e-8)
    ) * np.float32(2**-23)
    found = input_perturbation(x)
    np.testing.assert_allclose(found[:2], np.abs(x[:2]) * 2.0**-23)
    assert not found[2:].any()
    assert input_perturbation(x.astype(np.float64))[0] == pytest.approx(1.5 * 2.0**-52)
    np.testing.assert_array_equal(input_perturbation(x[:1].astype(np.float16)), found[:1])
