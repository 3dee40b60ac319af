"""Products tile by tile."""

from __future__ import annotations

import weakref

import ml_dtypes
import numpy as np
import pytest
from operator_kernels import kernel
from tvm import relax

from relax_tapml import cores
from relax_tapml.derive import _product_tiles
from relax_tapml.derive._exact_sums import _grain, exact_sums
from relax_tapml.derive._pieces import pieces_of
from relax_tapml.derive._product_matrices import Matrix
from relax_tapml.derive._product_sums import sums_of_products
from relax_tapml.derive._product_tiles import Memory
from relax_tapml.kernel_flow.plain_kernel import plain_kernel


def product_of(dtype):
    function = kernel(relax.op.matmul, ((4, 8), dtype), ((8, 6), dtype))
    [product] = pieces_of(plain_kernel(function)).pieces
    return product


def matrix(shape, dtype, *, seed, is_transposed=False, has_errors=False):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * (rng.random(shape) < 0.8)
    values = values.astype(getattr(ml_dtypes, dtype, dtype))
    if is_transposed:
        values = np.ascontiguousarray(values.transpose(0, 2, 1)).transpose(0, 2, 1)
    errors = rng.random(shape) * 1e-3 if has_errors else None
    return Matrix(values=values, errors=errors, is_input=not has_errors)


SIZES = {"wide": (2, 5, 37, 70), "high": (2, 41, 6, 70), "one": (1, 1, 1, 1), "few": (1, 3, 9, 5)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("has_errors", [False, True], ids=["inputs", "values"])
def test_tiles_and_threads_change_nothing(size, dtype, has_errors, monkeypatch):
    """Whichever factor is held, and however many tiles and panels there are."""
    batches, height, width, terms = SIZES[size]
    product = product_of(dtype)
    left = matrix((batches, height, terms), dtype, seed=0, has_errors=has_errors)
    right = matrix((batches, width, terms), dtype, seed=1, is_transposed=True)

    def run():
        sums = sums_of_products(product, left, right)
        return [sums.values, sums.errors, sums.most, *exact_sums(product, left, right)]

    whole = run()
    expected = np.matmul(
        left.values.astype(np.float64), right.values.astype(np.float64).transpose(0, 2, 1)
    )
    np.testing.assert_allclose(whole[0], expected, rtol=1e-13, atol=1e-13)
    monkeypatch.setattr(_product_tiles, "TILE", 4 * terms)
    monkeypatch.setattr(_product_tiles, "_PANEL", 2 * terms)
    monkeypatch.setattr(cores, "usable_cores", lambda: 3)
    # Sums for bounds are computed in float32.
    for one, other, rtol in zip(run(), whole, (1e-12, 1e-6, 1e-6, 1e-12, 1e-12), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-15)


def test_a_grain_is_that_of_the_values(monkeypatch):
    """One value with more digits than its row is seen, also in the last tile."""
    monkeypatch.setattr(_product_tiles, "TILE", 4 * 64)
    product = product_of("float16")
    rng = np.random.default_rng(0)
    left, right = (rng.integers(-1, 2, (1, n, 64)).astype("float16") for n in (3, 30))

    def errors():
        made = (Matrix(values=values, errors=None, is_input=True) for values in (left, right))
        return exact_sums(product, *made)[1][0]

    assert not errors().any()
    left[:, :, 0] = right[0, -1, 0] = 1.0
    right[0, -1, 1], left[:, :, 1] = 1 + 2.0**-10, 1.0
    assert errors()[:, -1].all()
    assert not errors()[:, :-4].any()


def test_a_first_row_of_zeros_says_nothing_of_the_grain():
    """It has no lowest bit; the others have values below one."""
    values = np.array([[0.0, 0.0], [0.375, 0.25]])
    assert _grain(values, Memory()) == 0.125
    assert _grain(np.zeros((2, 2)), Memory()) == 1.0


def test_a_panel_is_freed_after_its_last_tile():
    """The prepared rows are several times as large as the factor."""
    matrix = Matrix(values=np.ones((1, 4, 2)), errors=None, is_input=True)
    panel = _product_tiles._Panel(matrix, 0, slice(0, 4), lambda *_args: np.ones(3), 2)
    prepared = weakref.ref(panel.prepared)
    panel.count_down()
    assert prepared() is not None
    panel.count_down()
    assert prepared() is None
