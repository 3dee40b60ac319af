"""Whole numbers in probes: what they find, and that they leave no tensor."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((8, 4)).astype("float32")

TAKE = """(W: T.Buffer((8, 4), "float32"), I: T.Buffer((8,), "int64"),
    Y: T.Buffer((8, 4), "float32")):
    for i, j in T.grid(8, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = W[I[vi], vj]
"""
WRAPPED = TAKE.replace("I[vi]", "T.Select(I[vi] < T.int64(0), I[vi] + T.int64(8), I[vi])")
AROUND = TAKE.replace(
    "W[I[vi], vj]", "T.if_then_else(I[vi] < T.int64(0), W[I[vi] + T.int64(8), vj], W[I[vi], vj])"
)
CLIPPED = TAKE.replace("I[vi]", "T.min(T.max(I[vi], T.int64(0)), T.int64(7))")
WHOLE_TABLE = TAKE.replace("float32", "int32")
HASH = """(I: T.Buffer((8,), "int64"), Y: T.Buffer((8,), "int64")):
    for i in range(8):
        with T.sblock("Y"):
            vi = T.axis.spatial(8, i)
            Y[vi] = I[vi] * T.int64(1000003) + T.int64(7)
"""
SCATTER = """(X: T.Buffer((8,), "float32"), I: T.Buffer((8,), "int64"),
    Y: T.Buffer((8,), "float32")):
    for i in range(8):
        with T.sblock("zero"):
            vi = T.axis.spatial(8, i)
            Y[vi] = T.float32(0)
    for i in range(8):
        with T.sblock("Y"):
            vi = T.axis.opaque(8, i)
            Y[I[vi]] = X[vi]
"""
RAGGED = """(X: T.Buffer((8,), "float32"), P: T.Buffer((5,), "int64"),
    Y: T.Buffer((4,), "float32")):
    for i in range(4):
        with T.sblock("zero"):
            vi = T.axis.spatial(4, i)
            Y[vi] = T.float32(0)
    for i in range(4):
        for j in range(P[i + 1] - P[i]):
            Y[i] = Y[i] + X[P[i] + j]
"""
PAGES = """(X: T.Buffer((8, 4), "float32"), L: T.Buffer((3,), "int64"),
    Y: T.Buffer((3, 4), "float32")):
    for i, j in T.grid(3, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = T.if_then_else(vj < L[vi], X[vi + L[vi], vj], T.float32(0))
"""
IN_ORDER = np.arange(8)
ROWS = np.zeros((8, 4), "float32")


def test_a_gather_that_ignores_its_indices_is_found(probed):
    """Recorded indices in order hide it."""
    found = probed(TAKE, [TABLE, IN_ORDER], ROWS)
    assert found.finds("I[vi]", "vi", ()) is None
    assert found.finds("I[vi]", "vi").startswith("large: ")
    assert not found.rejected()


def test_a_gather_of_whole_numbers_has_probes_too(probed):
    """It rounds nothing, and has no floats to shuffle."""
    table = RNG.integers(-9, 9, (8, 4)).astype("int32")
    found = probed(WHOLE_TABLE, [table, IN_ORDER], ROWS.astype("int32"))
    assert found.finds("I[vi]", "vi", ()) is None
    assert found.finds("I[vi]", "vi") is not None
    assert not found.rejected()


@pytest.mark.parametrize("source", [TAKE, WRAPPED, AROUND, CLIPPED])
def test_indices_go_as_far_as_the_kernel_allows(probed, source):
    """Below zero where it wraps, beyond both ends where it clips, to both ends of the axis."""
    found = probed(source, [TABLE, np.array([1, 2, 3, 4, 5, 1, 2, 3])], ROWS)
    low = {TAKE: 0, WRAPPED: -8, AROUND: -8, CLIPPED: -8}[source]
    high = 15 if source is CLIPPED else 7
    drawn = np.stack(found.values(1))
    assert (drawn.min(), drawn.max()) == (low, high)
    assert not found.rejected()


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (WRAPPED, "T.Select(I[vi] < T.int64(0), I[vi] + T.int64(8), I[vi])", "I[vi]"),
        (WRAPPED, "I[vi] + T.int64(8)", "I[vi] + T.int64(7)"),
        (AROUND, "W[I[vi] + T.int64(8), vj]", "W[T.int64(0), vj]"),
        (CLIPPED, "T.max(I[vi], T.int64(0))", "T.abs(I[vi])"),
        (CLIPPED, "T.int64(7)", "T.int64(6)"),
    ],
)
def test_a_kernel_without_its_wrap_or_clip_is_found(probed, source, old, new):
    """Recorded indices never needed it; no negative index was recorded."""
    found = probed(source, [TABLE, np.array([1, 2, 3, 4, 5, 1, 2, 3])], ROWS)
    # Below the first row of the table there is memory of this process.
    if new == "I[vi]":
        new = "T.max(I[vi], T.int64(0))"
    assert found.finds(old, new, ()) is None
    assert found.finds(old, new) is not None


def test_products_of_64_bits_are_found_that_are_computed_in_32(probed):
    """Recorded numbers are small."""
    found = probed(HASH, [np.arange(8) + 3], np.zeros(8, "int64"))
    old = "I[vi] * T.int64(1000003) + T.int64(7)"
    new = 'T.Cast("int64", T.Cast("int32", I[vi]) * 1000003 + 7)'
    assert found.finds(old, new, ()) is None
    assert found.finds(old, new) is not None
    assert not found.rejected()


def test_large_numbers_overflow_nowhere(probed):
    """Beyond the range of a dtype signed arithmetic means nothing."""
    narrow = HASH.replace("int64", "int32")
    found = probed(narrow, [np.arange(8, dtype="int32")], np.zeros(8, "int32"))
    for numbers in found.values(0):
        assert (np.abs(numbers.astype("int64") * 1000003 + 7) < 2**31).all()
    cubed = HASH.replace("T.int64(1000003)", "I[vi] * I[vi]")
    found = probed(cubed, [np.arange(8)], np.zeros(8, "int64"))
    largest = max(int(np.abs(numbers).max()) for numbers in found.values(0))
    assert 2**12 < largest < 2**21
    assert not found.rejected()


def test_scatter_indices_are_permuted_and_stay_distinct(probed):
    """Of two writes to one place the last would count, whichever that is."""
    found = probed(SCATTER, [TABLE[:, 0].copy(), IN_ORDER], np.zeros(8, "float32"))
    for numbers in found.values(1):
        np.testing.assert_array_equal(np.sort(numbers), IN_ORDER)
        assert (numbers != IN_ORDER).any()
    assert found.finds("Y[I[vi]]", "Y[vi]", ()) is None
    assert found.finds("Y[I[vi]]", "Y[vi]") is not None


def test_scatter_indices_with_duplicates_stay(probed):
    """They may mean something in their order alone."""
    numbers = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    found = probed(SCATTER, [TABLE[:, 0].copy(), numbers], np.zeros(8, "float32"))
    assert found.probes
    for probed_numbers in found.values(1):
        np.testing.assert_array_equal(probed_numbers, numbers)


def test_offsets_that_bound_loops_stay(probed):
    """Out of order they would be no offsets."""
    offsets = np.array([0, 2, 3, 7, 8])
    found = probed(RAGGED, [TABLE[:, 1].copy(), offsets], np.zeros(4, "float32"))
    assert found.probes
    for numbers in found.values(1):
        np.testing.assert_array_equal(numbers, offsets)


def test_lengths_that_guard_reads_stay_in_bounds(probed):
    """Every read is checked under the condition that guards it."""
    found = probed(PAGES, [TABLE, np.array([0, 3, 5])], np.zeros((3, 4), "float32"))
    assert any((numbers != [0, 3, 5]).any() for numbers in found.values(1))
    for numbers in found.values(1):
        reads = numbers > 0
        assert (numbers[reads] + np.arange(3)[reads] < 8).all()
    assert found.finds("vj < L[vi]", "vj < vi * 3", ()) is None
    assert found.finds("vj < L[vi]", "vj < vi * 3") is not None
    assert not found.rejected()


def test_the_same_call_gives_the_same_probes(probed):
    """They are not random."""
    one, other = (probed(WRAPPED, [TABLE, IN_ORDER], ROWS) for _ in range(2))
    assert one.reasons() == other.reasons()
    for place in (0, 1):
        np.testing.assert_array_equal(one.values(place), other.values(place))
