"""Large products: evaluated by matrix products, with the errors of a sample."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from operator_kernels import kernel
from tvm import relax

from mutation.sum_orders import sums, terms_of_kinds
from relax_tapml.arrays import as_float64
from relax_tapml.derive import _blocks, _evaluation, _product_sample
from relax_tapml.derive._pieces import Part, Product, pieces_of
from relax_tapml.derive.derivation import Derivation
from relax_tapml.kernel_flow.plain_kernel import plain_kernel


@pytest.fixture
def small(monkeypatch):
    """Let every product be a large one, and return a function that sets the size of a sample."""
    monkeypatch.setattr(_evaluation, "EXACT_ITERATIONS", 0)

    def sampled(elements, terms):
        monkeypatch.setattr(_product_sample, "SAMPLED_TERMS", elements * terms)

    return sampled


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def matmul(m, k, n, dtype):
    return kernel(relax.op.matmul, ((m, k), dtype), ((k, n), dtype))


def evaluated(function, *inputs, like, is_exact=False):
    [oracle], [tolerance] = Derivation(function, [len(inputs)]).evaluated(
        dict(enumerate(inputs)), {}, [like], is_exact=is_exact
    )
    return oracle, tolerance


@pytest.mark.parametrize(("dtype", "k"), [("float16", 512), ("bfloat16", 64), ("float32", 1024)])
def test_sums_in_many_orders_are_inside(dtype, k, small):
    """Columns of 19 kinds of terms, rows of very different sizes, a sample that misses most."""
    small(16, k)
    kinds = [(name, row) for name, rows in terms_of_kinds(2, k, seed=1) for row in rows]
    order = np.random.default_rng(0).permutation(len(kinds))
    names = [kinds[place][0] for place in order]
    w = np.stack([kinds[place][1] for place in order], axis=1).astype(dtype_of(dtype))
    a = np.ones((4, k)) * 2.0 ** np.array([[-10], [-2], [0], [8]])
    a[2] *= np.random.default_rng(1).choice([-1, 1], k)
    a = a.astype(dtype_of(dtype))
    like = np.zeros((4, len(kinds)), a.dtype)
    oracle, tolerance = evaluated(matmul(4, k, len(kinds), dtype), a, w, like=like)
    assert "elements" in tolerance.origin
    wide, allowed = as_float64(oracle), tolerance.allowed(oracle)
    is_judged = np.isfinite(wide) & np.isfinite(allowed)
    assert is_judged.mean() > 0.9
    for row in range(4):
        with np.errstate(over="ignore", invalid="ignore"):
            terms = np.ascontiguousarray((a[row][:, None] * w).T)
            for name, result in sums(terms):
                is_inside = np.abs(as_float64(result) - wide[row]) <= allowed[row]
                wrong = [names[n] for n in np.flatnonzero(is_judged[row] & ~is_inside)]
                assert not wrong, (name, row)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_bounds_outside_the_sample_have_power(dtype, small):
    """They tell a product from zeros and from half of its terms, with outlier columns too."""
    m, k, n = 8, 1024, 96
    small(64, k)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((m, k))
    x[:, ::256] *= 30
    x *= 10.0 ** rng.uniform(-3, 1, (m, 1))
    w = rng.standard_normal((k, n)) / np.sqrt(k)
    x, w = x.astype(dtype), w.astype(dtype)
    like = np.zeros((m, n), dtype)
    oracle, tolerance = evaluated(matmul(m, k, n, dtype), x, w, like=like)
    wide, allowed = as_float64(oracle), tolerance.allowed(oracle)
    seen = (np.abs(wide) > allowed).mean(axis=1)
    assert (seen > (0.3 if dtype == "float16" else 0.9)).all()
    half = as_float64(x[:, : k // 2]) @ as_float64(w[: k // 2])
    assert (np.abs(half - wide) > allowed).any(axis=1).all()


def test_bounds_are_those_of_partial_sums_within_a_small_factor(small, monkeypatch):
    """Of ordinary terms, the median is less than six times as large."""
    m, k, n = 8, 512, 64
    rng = np.random.default_rng(0)
    x = rng.standard_normal((m, k)).astype("float16")
    w = (rng.standard_normal((k, n)) / np.sqrt(k)).astype("float16")
    like = np.zeros((m, n), "float16")
    small(32, k)
    oracle, sampled = evaluated(matmul(m, k, n, "float16"), x, w, like=like)
    monkeypatch.setattr(_evaluation, "EXACT_ITERATIONS", 1e12)
    same, whole = evaluated(matmul(m, k, n, "float16"), x, w, like=like)
    np.testing.assert_array_equal(oracle, same)
    share = sampled.allowed(oracle) / whole.allowed(oracle)
    assert share.min() > 0.6  # A bound of partial sums is three times what orders come to.
    assert np.median(share) < 6


def test_exact_sums_of_a_large_product_have_no_error(small):
    """One dropped term is seen; sums with more digits than the dtype holds have an error."""
    small(4, 256)
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (4, 256)).astype("float16")
    w = (rng.integers(-1, 2, (256, 24)) / 64).astype("float16")
    like = np.zeros((4, 24), "float16")
    function = matmul(4, 256, 24, "float16")
    oracle, tolerance = evaluated(function, x, w, like=like, is_exact=True)
    np.testing.assert_array_equal(as_float64(oracle), as_float64(x) @ as_float64(w))
    assert tolerance.allowed(oracle).max() <= float(ml_dtypes.finfo("float16").smallest_subnormal)
    _, rounded = evaluated(function, x * 100 + 1, w * 99 + 1, like=like, is_exact=True)
    assert np.median(rounded.allowed(oracle)) > 1e-3


def silu(x, w, b):
    return relax.op.nn.silu(relax.op.add(relax.op.matmul(x, w), b))


CASES = {
    "fused": (silu, [(5, 64), (64, 40), (40,)], "float16"),
    "float32": (silu, [(5, 64), (64, 40), (40,)], "float32"),
    "convolution": (relax.op.nn.conv2d, [(1, 4, 9, 9), (6, 4, 3, 3)], "float32"),
    "batches": (relax.op.matmul, [(3, 5, 64), (3, 64, 8)], "float16"),
    "broadcast": (relax.op.matmul, [(3, 5, 64), (64, 8)], "float32"),
}


@pytest.mark.parametrize("name", CASES)
def test_pieces_and_blocks_give_what_the_whole_gives(name, small, monkeypatch):
    """The same values; bounds that are not smaller, and not much larger."""
    body, shapes, dtype = CASES[name]
    function = kernel(body, *((shape, dtype) for shape in shapes))
    rng = np.random.default_rng(0)
    arguments = {n: rng.standard_normal(s).astype(dtype) for n, s in enumerate(shapes)}
    last = function.params[len(shapes)]
    like = np.zeros([int(extent) for extent in last.shape], dtype)
    small(16, 64)

    def run():
        return Derivation(function, [len(shapes)]).evaluated(arguments, {}, [like])

    [pieced], [sampled] = run()
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", 1 << 12)
    [blocked], [of_blocks] = run()
    monkeypatch.setattr(_evaluation, "EXACT_ITERATIONS", 1e12)
    [whole_in_blocks], [exact_blocks] = run()
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", 1 << 29)
    [whole], [exact] = run()
    for other in (pieced, blocked, whole_in_blocks):
        np.testing.assert_array_equal(other, whole)
    np.testing.assert_array_equal(exact_blocks.allowed(whole), exact.allowed(whole))
    for bounds in (sampled, of_blocks):
        share = bounds.allowed(whole) / exact.allowed(whole)
        assert share.min() > 0.6
        assert np.median(share) < 8


def test_an_evaluation_in_blocks_is_given_up_at_the_first(monkeypatch):
    """Where that is not promising; a call of one block is not asked about."""
    function = kernel(relax.op.matmul, ((5, 64), "float16"), ((64, 64), "float16"))
    rng = np.random.default_rng(0)
    arguments = {
        n: rng.standard_normal(s).astype("float16") for n, s in enumerate([(5, 64), (64, 64)])
    }
    like = np.zeros((5, 64), "float16")
    asked = []

    def is_promising(results, tolerances, parts):
        asked.append([results[0].shape, tolerances[0].bound.shape, parts[0].shape])
        return False

    def run():
        return Derivation(function, [2]).evaluated(arguments, {}, [like], is_promising=is_promising)

    assert run() is not None
    assert asked == []
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", 1 << 12)
    assert run() is None
    [[result, *others]] = asked
    assert others == [result, result]
    assert np.prod(result) < like.size


def test_a_kernel_is_taken_apart_at_its_products():
    """What comes before, between and after them are kernels of their own."""
    function = kernel(silu, ((5, 64), "float16"), ((64, 4), "float16"), ((4,), "float16"))
    pieces = pieces_of(plain_kernel(function)).pieces
    assert [type(piece) for piece in pieces] == [Product, Part]
    assert pieces_of(plain_kernel(kernel(relax.op.exp, ((5, 64), "float16")))) is None
