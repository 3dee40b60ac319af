"""Probes whose sums are exact in every order, so that each term shows."""

from __future__ import annotations

import numpy as np
import pytest

MATMUL = """(X: T.Buffer((2, 1024), "DTYPE"), W: T.Buffer((1024, 4), "DTYPE"),
    Y: T.Buffer((2, 4), "DTYPE")):
    for i, j, k in T.grid(2, 4, 1024):
        with T.sblock("Y"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                Y[vi, vj] = T.DTYPE(0)
            Y[vi, vj] = Y[vi, vj] + X[vi, vk] * W[vk, vj]
"""
PACKED = """(X: T.Buffer((2, 1024), "float16"), W: T.Buffer((128, 4), "uint32"),
    S: T.Buffer((32, 4), "float16"), Y: T.Buffer((2, 4), "float16")):
    D = T.sblock_alloc_buffer((1024, 4), "float16")
    for k, j in T.grid(1024, 4):
        with T.sblock("D"):
            vk, vj = T.axis.remap("SS", [k, j])
            D[vk, vj] = (T.Cast("float16", T.bitwise_and(T.shift_right(W[vk // 8, vj],
                T.Cast("uint32", vk % 8 * 4)), T.uint32(15))) - T.float16(7)) * S[vk // 32, vj]
    for i, j, k in T.grid(2, 4, 1024):
        with T.sblock("Y"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                Y[vi, vj] = T.float16(0)
            Y[vi, vj] = Y[vi, vj] + X[vi, vk] * D[vk, vj]
"""
NORM = """(X: T.Buffer((2, 64), "float16"), G: T.Buffer((64,), "float16"),
    Y: T.Buffer((2, 64), "float16")):
    S = T.sblock_alloc_buffer((2,), "float16")
    for i, k in T.grid(2, 64):
        with T.sblock("S"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                S[vi] = T.float16(0)
            S[vi] = S[vi] + X[vi, vk] * X[vi, vk]
    for i, j in T.grid(2, 64):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] * T.rsqrt(S[vi] / T.float16(64) + T.float16(1e-5)) * G[vj]
"""
SOFTMAX = """(X: T.Buffer((4, 8), "float16"), Y: T.Buffer((4,), "float16")):
    for i, k in T.grid(4, 8):
        with T.sblock("S"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                Y[vi] = T.float16(0)
            Y[vi] = Y[vi] + T.exp(X[vi, vk])
"""


def drawn(*shape, dtype="float16"):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.fixture(scope="module")
def products(probed):
    """The probed products by dtype."""
    return {
        dtype: probed(
            MATMUL.replace("DTYPE", dtype),
            [drawn(2, 1024, dtype=dtype), drawn(1024, 4, dtype=dtype)],
            np.zeros((2, 4), dtype),
            fixed=[1],
        )
        for dtype in ("float16", "float32")
    }


def exact_of(found):
    return [probe for probe in found.probes if probe.name.startswith("exact")]


DROPPED = [
    ("X[vi, vk] * W[vk, vj]", "T.Select(vk == 700, T.{0}(0), X[vi, vk] * W[vk, vj])"),
    ("X[vi, vk] * W[vk, vj]", "T.Select(vk == 3, T.{0}(2), T.{0}(1)) * X[vi, vk] * W[vk, vj]"),
    ("W[vk, vj]", "W[T.Select(vk == 8, 9, T.Select(vk == 9, 8, vk)), vj]"),
]


@pytest.mark.parametrize("edit", DROPPED, ids=["dropped", "doubled", "swapped"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_one_wrong_term_of_a_sum_is_found(products, dtype, edit):
    """Among a thousand, in the dtype of the sum, whatever the bound of ordinary inputs."""
    found = products[dtype]
    old, new = edit
    others = [probe for probe in found.probes if probe not in exact_of(found)]
    text = found.finds(old, new.format(dtype))
    assert text is not None
    assert text.startswith("exact") or found.finds(old, new.format(dtype), others) is not None
    assert not found.inexact


def test_every_order_gives_the_same_bits(products):
    """So nothing is allowed for the order."""
    dtype = "float16"
    found = products[dtype]
    assert exact_of(found)
    for probe in exact_of(found):
        x, w = (array.astype("float64") for array in probe.inputs)
        np.testing.assert_array_equal(probe.outputs[0], (x @ w).astype(dtype))
        terms = x[0] * w[:, 1]
        for order in (terms, terms[::-1], np.random.default_rng(0).permutation(terms)):
            total = np.zeros((), dtype)
            for term in order.astype(dtype):
                total = (total + term).astype(dtype)
            assert total == probe.outputs[0][0, 1]
        # Less than the smallest term: denormals may be flushed.
        assert (probe.tolerances[0].allowed(probe.outputs[0]) < 1e-7).all()
    assert not found.rejected()


def test_terms_of_packed_weights_are_shared(probed):
    """Few of them fit at once; together the probes state how many they have."""
    packed = np.random.default_rng(0).integers(0, 2**32, (128, 4), dtype=np.uint32)
    inputs = [drawn(2, 1024), packed, np.abs(drawn(32, 4)) * np.float16(0.1)]
    found = probed(PACKED, inputs, np.zeros((2, 4), "float16"), fixed=[1, 2])
    exact = exact_of(found)
    assert 2 <= len(exact) <= 4
    seen = np.stack([probe.inputs[0] != 0 for probe in exact])
    assert (seen.sum(0) <= 1).all()
    share = seen.any(0).mean()
    if found.inexact:
        assert f"{round(share * len(exact)) / len(exact):.0%}" in found.inexact
    else:
        assert share == 1
    for probe in exact:
        np.testing.assert_array_equal(probe.inputs[1], packed)
    edit = ("T.uint32(15)", "T.Select(vk == 700, T.uint32(3), T.uint32(15))")
    assert found.finds(*edit, ()) is None
    assert found.finds(*edit, exact).startswith("exact")
    assert not found.rejected()


def test_what_follows_a_sum_may_round(probed):
    """A few units in the last place hide no term."""
    found = probed(
        NORM,
        [drawn(2, 64, dtype="float16"), drawn(64, dtype="float16")],
        np.zeros((2, 64), "float16"),
        fixed=[1],
    )
    assert exact_of(found)
    old = "X[vi, vk] * X[vi, vk]"
    dropped = f"T.Select(vk == 30, T.float16(0), {old})"
    assert found.finds(old, dropped, exact_of(found)) is not None
    assert not found.rejected(every=4, found=exact_of(found))


def test_sums_of_rounded_terms_are_reported(probed):
    """No input makes them exact."""
    found = probed(SOFTMAX, [drawn(4, 8, dtype="float16")], np.zeros(4, "float16"))
    assert not exact_of(found)
    assert found.inexact == "a sum has exp in its terms"


def test_large_inputs_are_made_by_a_recipe(products):
    """All their terms are tested."""
    for probe in exact_of(products["float16"]):
        assert set(probe.recipes) == {0, 1}
        for place, recipe in probe.recipes.items():
            made = recipe.array("float16", probe.inputs[place].shape)
            np.testing.assert_array_equal(made, probe.inputs[place])


def test_what_ordinary_inputs_see_needs_no_exact_sums(products):
    """In float32 the bound of a thousand terms is far below one of them."""
    assert not exact_of(products["float32"])
    assert not products["float32"].inexact
