"""Sums: right ones are inside in whatever order, and what is wrong is outside."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from operator_kernels import kernel
from tvm import relax

from mutation.sum_orders import sums, terms_of_kinds
from relax_tapml.arrays import as_float64
from relax_tapml.derive.derivation import Derivation


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def evaluated(function, *inputs, like, is_exact=False):
    """Return what a kernel gives in exact arithmetic, as float64, and how far it may be off."""
    derivation = Derivation(function, [len(inputs)])
    found = derivation.evaluated(dict(enumerate(inputs)), {}, [like], is_exact=is_exact)
    assert found is not None
    [oracle], [tolerance] = found
    return as_float64(oracle), tolerance.allowed(oracle)


def row_sums(rows, length, dtype):
    return kernel(lambda x: relax.op.sum(x, axis=1), ((rows, length), dtype))


def matmul(k, n, dtype):
    return kernel(relax.op.matmul, ((1, k), dtype), ((k, n), dtype))


def product(k, n, dtype, seed=0):
    """Inputs of the scale of a layer of a language model."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, k)).astype(dtype)
    return x, (rng.standard_normal((k, n)) / np.sqrt(k)).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "length"),
    [("float16", 64), ("float16", 4096), ("bfloat16", 512), ("float32", 12544)],
)
def test_sums_in_many_orders_are_inside(dtype, length):
    """Of terms of many kinds, every partial sum rounded to the dtype; docs/judging.md has 0.7."""
    rows = 4
    function = row_sums(rows, length, dtype)
    for name, wide in terms_of_kinds(rows, length, seed=1):
        terms = wide.astype(dtype_of(dtype))
        like = np.zeros(rows, terms.dtype)
        oracle, allowed = evaluated(function, terms, like=like)
        for order, result in sums(terms):
            with np.errstate(invalid="ignore"):
                is_inside = np.abs(as_float64(result) - oracle) <= 0.7 * allowed
            is_judged = np.isfinite(oracle) & np.isfinite(allowed)
            assert is_inside[is_judged].all(), (name, order)


@pytest.mark.parametrize("first", [1e6, 3.0e7])
def test_what_a_sum_begins_with_is_a_partial_sum(first):
    """Small terms that are added to a large value are lost there, in part."""
    n = 100
    terms = np.full((1, n), 0.04, np.float32)
    terms[0, 0] = first
    oracle, allowed = evaluated(row_sums(1, n, "float32"), terms, like=np.zeros(1, np.float32))
    for order, result in sums(terms):
        assert np.abs(as_float64(result) - oracle) <= allowed, order


def test_a_sum_that_passes_what_float16_holds_on_its_way_is_not_judged():
    """It is infinite in this order, and finite in another one."""
    n = 64
    terms = np.where(np.arange(n) < n // 2, 3000.0, -3000.0).astype("float16")[None]
    _, allowed = evaluated(row_sums(1, n, "float16"), terms, like=np.zeros(1, "float16"))
    assert np.isnan(allowed).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("k", [512, 4096])
def test_the_bound_of_a_product_tells_it_from_zeros(k, dtype):
    """And from one whose second half of terms is missing."""
    x, w = product(k, 64, dtype)
    oracle, allowed = evaluated(matmul(k, 64, dtype), x, w, like=np.zeros((1, 64), x.dtype))
    assert (np.abs(oracle) > allowed).mean() > 0.5
    half = as_float64(x[:, : k // 2]) @ as_float64(w[: k // 2])
    assert (np.abs(half - oracle) > allowed).any()
    scale = float(np.sqrt(np.mean(oracle**2)))
    assert np.median(allowed) < scale * (0.3 if dtype == "float16" else 1e-3)


def test_whole_numbers_that_no_order_rounds_have_no_error():
    """Products of whole numbers and powers of two, whose sums fit the digits of float16."""
    k, n = 2048, 16
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (1, k)).astype("float16")
    w = (rng.integers(-1, 2, (k, n)) / 64).astype("float16")
    like = np.zeros((1, n), "float16")
    oracle, allowed = evaluated(matmul(k, n, "float16"), x, w, like=like, is_exact=True)
    smallest = float(ml_dtypes.finfo("float16").smallest_subnormal)
    assert allowed.max() <= smallest
    dropped = oracle - as_float64(x[:, :1]) * as_float64(w[:1])
    assert (np.abs(dropped - oracle) > allowed).any()


@pytest.mark.parametrize(
    ("low", "high", "scale"), [(-300, 300, 1.0), (-1, 2, 0.1)], ids=["too long", "no power of two"]
)
def test_whole_numbers_that_an_order_rounds_have_an_error(low, high, scale):
    """Partial sums with more digits than the dtype holds, and terms that are rounded themselves."""
    k = 64
    rng = np.random.default_rng(0)
    x = (rng.integers(low, high, (1, k)) * scale).astype("float16")
    w = (rng.integers(low, high, (k, 8)) * scale / 4096).astype("float16")
    like = np.zeros((1, 8), "float16")
    _, allowed = evaluated(matmul(k, 8, "float16"), x, w, like=like, is_exact=True)
    assert np.median(allowed) > 1e-6


@pytest.mark.parametrize(("base", "power"), [(1e4, 0.01), (1e4, 0.0), (0.5, 3.0), (7.0, -2.0)])
def test_the_error_of_an_exponent_counts_by_the_logarithm_of_the_base(base, power):
    """x**(y + e) is off by about |ln x| e."""
    x = np.full(4, base, np.float32)
    y = np.full(4, power, np.float32)
    a = np.full(4, 3.3, np.float32)
    function = kernel(
        # The exponent is y + a - a, which rounding may move.
        lambda x, y, a: relax.op.power(x, relax.op.subtract(relax.op.add(y, a), a)),
        *[((4,), "float32")] * 3,
    )
    oracle, allowed = evaluated(function, y, a, x, like=x)  # in the order of their use
    moved = np.float32(power) + np.float32(3.3) * 2.0**-24
    least = np.abs(np.float64(base) ** moved - np.float64(base) ** power)
    assert (allowed > least).all()
    assert (allowed < 1e-4 * np.abs(oracle)).all()
