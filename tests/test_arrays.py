"""Widening of narrow floats."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from relax_tapml.arrays import are_same_arrays, as_float64, copy_wide

EVERY = np.arange(1 << 16, dtype=np.uint16)


def same_bits(one, other):
    return one.dtype == other.dtype and np.array_equal(
        np.where(np.isnan(one), 0, one).view(f"u{one.itemsize}"),
        np.where(np.isnan(other), 0, other).view(f"u{one.itemsize}"),
    )


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_every_value_is_widened_exactly(name, wide):
    """Finite ones, in arrays with and without others; zeros keep their sign."""
    every = EVERY.view(getattr(ml_dtypes, name, name))
    with np.errstate(invalid="ignore"):
        expected = every.astype(wide)
    finite = np.isfinite(expected)
    for values, right in ((every, expected), (every[finite], expected[finite])):
        found = np.empty(values.shape, wide)
        copy_wide(found, values)
        assert same_bits(found, right)
        assert np.array_equal(np.isnan(found), np.isnan(right))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float8_e4m3fn"])
def test_any_layout_is_widened(name):
    """Transposed, reversed, with gaps, of no axis and of none of a size, larger than a part."""
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    base = np.random.default_rng(0).standard_normal((3, 130, 257)).astype(dtype)
    swapped = base.astype(dtype.newbyteorder()) if name != "float8_e4m3fn" else base
    for array in (swapped, base, base.T, base[:, ::-1, ::2], base[0, 0, 0], base[:0], base[1].T):
        array = np.asarray(array)
        assert same_bits(as_float64(array), array.astype(np.float64))


def test_arrays_are_the_same_by_dtype_shape_and_every_byte(monkeypatch):
    """Also behind the first part that is compared, and where values are equal but bits are not."""
    monkeypatch.setattr("relax_tapml.arrays._COMPARED", 8)
    one = np.arange(6, dtype="float32").reshape(2, 3)
    last = one.copy()
    last[-1, -1] = 7
    assert are_same_arrays([one, one.T], [one.copy(), one.T.copy()])
    others = (last, one.T, one.view("int32"), one.reshape(-1), np.where(one == 0, -0.0, one))
    for other in others:
        assert not are_same_arrays([one], [other.astype(other.dtype)])
    assert not are_same_arrays([one], [one, one])
