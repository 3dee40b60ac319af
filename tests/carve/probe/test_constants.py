"""Inputs that held one value in all recorded calls."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((4, 8)).astype("float32")
EMPTY = np.zeros((4, 8), "float32")

MASKED = """(X: T.Buffer((4, 8), "float32"), M: T.Buffer((1, 8), "float32"),
    Y: T.Buffer((4, 8), "float32")):
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] + M[0, vj]
"""
COUNT = """(M: T.Buffer((4, 8), "float32"), Y: T.Buffer((4,), "float32")):
    for i, k in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                Y[vi] = T.float32(0)
            Y[vi] = Y[vi] + M[vi, vk]
"""
WHOLE_COUNT = COUNT.replace("float32(0)", "int64(0)").replace("float32", "int64")
CHOSEN = """(X: T.Buffer((4, 8), "float32"), M: T.Buffer((8,), "bool"),
    Y: T.Buffer((4, 8), "float32")):
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = T.Select(M[vj], X[vi, vj], T.float32(-1e9))
"""
TYPES = """(W: T.Buffer((2, 8), "float32"), I: T.Buffer((4,), "int64"),
    Y: T.Buffer((4, 8), "float32")):
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = W[I[vi], vj]
"""
DIVIDED = MASKED.replace("(1, 8)", "(4, 8)").replace("+ M[0, vj]", "/ M[vi, vj]")
TWICE = ("M[vi, vk]", "M[vi, T.Select(vk == 7, 0, vk)]")

KINDS = {
    "a mask of zeros, subtracted": (
        MASKED,
        [SCORES, np.zeros((1, 8), "float32")],
        EMPTY,
        ("+ M[0, vj]", "- M[0, vj]"),
    ),
    "a mask of zeros, of the next column": (
        MASKED,
        [SCORES, np.zeros((1, 8), "float32")],
        EMPTY,
        ("M[0, vj]", "M[0, T.max(vj - 1, 0)]"),
    ),
    "a mask of ones, one element twice": (
        COUNT,
        [np.ones((4, 8), "float32")],
        np.zeros(4, "float32"),
        TWICE,
    ),
    "a mask of whole ones, one element twice": (
        WHOLE_COUNT,
        [np.ones((4, 8), "int64")],
        np.zeros(4, "int64"),
        TWICE,
    ),
    "a mask that lets all through, ignored": (
        CHOSEN,
        [SCORES, np.ones(8, bool)],
        EMPTY,
        ("T.Select(M[vj], X[vi, vj], T.float32(-1e9))", "X[vi, vj]"),
    ),
    "types that are all 0, ignored": (
        TYPES,
        [SCORES[:2].copy(), np.zeros(4, "int64")],
        EMPTY,
        ("I[vi]", "0"),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_constant_hides_is_found(probed, kind):
    """And no right kernel is rejected for it."""
    source, inputs, output, edit = KINDS[kind]
    found = probed(source, inputs, output)
    assert found.finds(*edit, ()) is None
    assert found.finds(*edit) is not None
    assert not found.rejected()


def test_one_probe_masks_something(probed):
    """Among moderate values, which another probe has alone."""
    found = probed(MASKED, [SCORES, np.zeros((1, 8), "float32")], EMPTY)
    moderate, masking = found.values(1)
    assert np.abs(moderate).max() <= 1.5
    assert (masking <= -1e4).any()
    assert "constants varied" in found.reasons()["large"]


def test_what_the_model_decides_stays(probed):
    """A bias of zeros is a weight."""
    found = probed(MASKED, [SCORES, np.zeros((1, 8), "float32")], EMPTY, fixed=[1])
    assert found.probes
    assert not np.any(found.values(1))


def test_a_unit_that_means_nothing_for_other_constants_keeps_them(probed):
    """Division by a mask that masks is infinite; floats are still shuffled and scaled."""
    found = probed(DIVIDED, [SCORES, np.ones((4, 8), "float32")], EMPTY)
    assert "constants varied" not in found.reasons()["large"]
    assert len(np.unique(found.values(1)[0])) == 1
    assert (found.values(0)[0] != SCORES).any()
