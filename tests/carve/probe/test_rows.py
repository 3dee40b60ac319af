"""Rows that are all negative or all equal, and values that are no ordinary numbers."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((4, 8)).astype("float32")
EMPTY = np.zeros((4, 8), "float32")

SOFTMAX = """(X: T.Buffer((4, 8), "float32"), Y: T.Buffer((4, 8), "float32")):
    M = T.sblock_alloc_buffer((4,), "float32")
    S = T.sblock_alloc_buffer((4,), "float32")
    for i, k in T.grid(4, 8):
        with T.sblock("M"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                M[vi] = T.float32(-3.4028234663852886e38)
            M[vi] = T.max(M[vi], X[vi, vk] * T.float32(0.125))
    for i, k in T.grid(4, 8):
        with T.sblock("S"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                S[vi] = T.float32(0)
            S[vi] = S[vi] + T.exp(X[vi, vk] * T.float32(0.125) - M[vi])
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = T.exp(X[vi, vj] * T.float32(0.125) - M[vi]) / S[vi]
"""
# Along the first axis: rows of the last one do not matter.
COLUMNS = (
    SOFTMAX.replace("(4,)", "(8,)")
    .replace('"SR", [i, k]', '"RS", [k, i]')
    .replace("vi, vk = ", "vk, vi = ")
    .replace("for i, k in T.grid(4, 8)", "for k, i in T.grid(4, 8)")
    .replace("X[vi, vk]", "X[vk, vi]")
    .replace("M[vi]) / S[vi]", "M[vj]) / S[vj]")
)
POOL = """(X: T.Buffer((4, 8), "float32"), Y: T.Buffer((4, 7), "float32")):
    for i, j, k in T.grid(4, 7, 2):
        with T.sblock("Y"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                Y[vi, vj] = T.float32(-3.4028234663852886e38)
            Y[vi, vj] = T.max(Y[vi, vj], X[vi, vj + vk])
"""
LOWEST = "T.float32(-3.4028234663852886e38)"
TURNED = """(X: T.Buffer((16, 32), "float32"), W: T.Buffer((16,), "float32"),
    Y: T.Buffer((32, 16), "float32")):
    for i, j in T.grid(32, 16):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vj, vi] + W[vj]
"""


@pytest.mark.parametrize(
    ("source", "output"),
    [(SOFTMAX, EMPTY), (COLUMNS, EMPTY), (POOL, EMPTY[:, :7].copy())],
    ids=["softmax", "columns", "pool"],
)
@pytest.mark.parametrize("start", ["T.float32(0)", "T.float32(-100)"])
def test_a_maximum_that_starts_too_high_is_found(probed, source, output, start):
    """Where a row has nothing above that, whatever the axis of the rows."""
    found = probed(source, [np.abs(SCORES)], output)
    assert found.finds(LOWEST, start, ()) is None
    assert found.finds(LOWEST, start) is not None


@pytest.mark.parametrize("source", [SOFTMAX, COLUMNS])
def test_right_kernels_pass(probed, source):
    """With other schedules and formulas."""
    found = probed(source, [SCORES], EMPTY)
    assert [probe.name for probe in found.probes] == ["large", "small", "rows"]
    assert not found.rejected()


def test_rows_are_negative_and_half_of_them_alike(probed):
    """Masks stay what they are."""
    masked = SCORES.copy()
    masked[1:, 3] = -1e9
    rows = probed(SOFTMAX, [masked], EMPTY).values(0)[-1]
    assert (rows < 0).all()
    assert (rows == -1e9).sum() == 3
    for row, is_alike in zip(rows, [False, False, True, True], strict=True):
        assert (len(np.unique(row[row > -1e9])) == 1) == is_alike


def test_kernels_that_compare_no_floats_get_no_rows(probed):
    """A sign has no meaning there."""
    found = probed(
        TURNED,
        [RNG.standard_normal((16, 32), "float32"), SCORES.reshape(-1)[:16]],
        np.zeros((32, 16), "float32"),
    )
    assert [probe.name for probe in found.probes] == ["large", "small"]


def test_nan_and_infinities_go_where_arithmetic_is_defined(probed):
    """Through copies, sums and products of two values; not where floats are compared or reduced."""
    x = RNG.standard_normal((16, 32), "float32")
    found = probed(TURNED, [x, SCORES.reshape(-1)[:16].copy()], np.zeros((32, 16), "float32"))
    value = "X[vj, vi] + W[vj]"
    for broken in (
        "T.Select(T.isnan(X[vj, vi]), T.float32(0), X[vj, vi] + W[vj])",
        "T.min(X[vj, vi], T.float32(1e30)) + W[vj]",
    ):
        assert found.finds(value, broken, ()) is None
        assert found.finds(value, broken) is not None
    assert not found.rejected()
    for source in (SOFTMAX, POOL):
        output = EMPTY[:, :7].copy() if source is POOL else EMPTY
        for values in probed(source, [SCORES], output).values(0):
            assert np.isfinite(values).all()
