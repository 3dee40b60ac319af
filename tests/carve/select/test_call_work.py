"""The calls that do most and least are always cases."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.carve.select.call_work import UnitWork
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.kernel_flow.loop_counts import LoopCounts, Loops


@I.ir_module
class Lengths:
    @T.prim_func(private=True, s_tir=True)
    def ragged(x: T.handle, starts: T.handle, out: T.handle):
        n = T.int64()
        b = T.int64()
        X = T.match_buffer(x, (n,))
        S = T.match_buffer(starts, (b + 1,), "int32")
        Y = T.match_buffer(out, (b,))
        for i in range(b):
            with T.sblock("row"):
                length = T.sblock_alloc_buffer((1,), "int32")
                first: T.let[T.int32] = S[i]
                length[0] = T.if_then_else(S[i] != S[i + 1], S[i + 1] - first, 0)
                Y[i] = T.float32(0)
                for j in range(length[0]):
                    Y[i] = Y[i] + X[first + j]

    @T.prim_func(private=True, s_tir=True)
    def guarded(x: T.handle, length: T.handle, out: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n,))
        L = T.match_buffer(length, (1,), "int32")
        Y = T.match_buffer(out, (1,))
        Y[0] = T.float32(0)
        for i in range(n):
            if i < T.Cast("int64", L[0]):
                for _j in range(2):
                    Y[0] = Y[0] + X[i]

    @T.prim_func(private=True, s_tir=True)
    def endless(x: T.handle, out: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n,), "int32")
        Y = T.match_buffer(out, (1,))
        Y[0] = T.float32(0)
        while Y[0] < T.Cast("float32", X[0]):
            Y[0] = Y[0] + T.float32(1)
        for _i in range(n):
            Y[0] = T.float32(2)

    @R.function
    def main(
        x: R.Tensor((64,), "float32"),
        starts: R.Tensor(("m",), "int32"),
        length: R.Tensor((1,), "int32"),
        q: R.Tensor(("k", 4), "float32"),
    ):
        m = T.int64()
        cls = Lengths
        a = R.call_tir(cls.ragged, (x, starts), out_ty=R.Tensor((m - 1,), "float32"))
        b = R.call_tir(cls.guarded, (x, length), out_ty=R.Tensor((1,), "float32"))
        c = R.sum(q, axis=0)
        d = R.exp(x)
        return a, b, c, d


def _kernel(name):
    return Lengths[name]


def test_iterations_are_counted_by_what_the_integers_say():
    """Ends of loops come from tensors, by way of variables, local buffers and conditions."""
    kernel = _kernel("ragged")
    loops = Loops(kernel)
    assert loops.varies
    assert loops.reads
    x, _, _ = kernel.params
    fixed = {x.ty.shape[0]: 9, kernel.params[2].ty.shape[0]: 3}
    counts = loops.counts({1: np.array([0, 5, 5, 9], "int32")}, fixed)
    # Each row: its length and its zero are stored, then each value is added.
    assert counts == LoopCounts(iterations=3 * 2 + 9, passes=(5,))


def test_passes_that_a_condition_leaves_out_do_not_count():
    """A loop over all pages that looks at as many tokens as there are has these for a context."""
    kernel = _kernel("guarded")
    fixed = {kernel.params[0].ty.shape[0]: 64}
    counts = Loops(kernel).counts({1: np.array([7], "int32")}, fixed)
    assert counts == LoopCounts(iterations=1 + 2 * 7, passes=(7,))


def test_what_is_not_followed_is_not_counted():
    """A ``while``, and a tensor that is missing."""
    kernel = _kernel("endless")
    assert Loops(kernel).counts({}, {kernel.params[0].ty.shape[0]: 3}) is None
    assert Loops(_kernel("ragged")).counts({}, {}) is None


@pytest.fixture(scope="module")
def lengths(record_model, tmp_path_factory):
    """Calls of equal shapes that differ in how far they read; sums of several lengths."""
    rng = np.random.default_rng(0)
    samples = []
    for length, rows in ((8, 5), (9, 5), (33, 2), (7, 9), (10, 5), (11, 5), (3, 4), (12, 3)):
        x = rng.standard_normal(64).astype("float32")
        starts = np.array([0, length], "int32")
        samples.append((x, starts, starts[1:], rng.standard_normal((rows, 4)).astype("float32")))
    recording = record_model(Lengths, tmp_path_factory.mktemp("lengths") / "captures", samples)
    yield recording
    recording.store.close()


def _chosen(recording, per_unit=3):
    work = UnitWork(recording.lowered, recording.calls)
    cases = choose_cases(recording.store, recording.sites, per_unit, work=work)
    found = {}
    for case in cases:
        found.setdefault(case.unit, []).append((case.record.frame, case.record.sample, case.reason))
    return found


def test_the_longest_and_the_shortest_context_come_first(lengths):
    """However many elements the tensors have, and whatever else the other calls show."""
    found = _chosen(lengths)
    for unit in ("ragged", "guarded"):
        (_, longest, why), (_, shortest, why_short), *_ = found[unit]
        assert (longest, shortest) == ("sample 2", "sample 6")
        assert why.startswith("longest context: 33 (others at most 12); most iterations: ")
        assert why_short.startswith("shortest context: 3 (others at least 7); fewest iterations")
        assert len(found[unit]) == 3


def test_the_extent_of_a_reduction_is_its_context(lengths):
    """Where shapes differ, the one with most to add up and the one with least are cases."""
    samples = [sample for _, sample, _ in _chosen(lengths)["sum"]]
    assert samples[:2] == ["sample 3", "sample 2"]


def test_a_single_case_is_the_longest(lengths):
    """One case for each unit is one; two are the longest and the shortest."""
    assert [sample for _, sample, _ in _chosen(lengths, 1)["ragged"]] == ["sample 2"]
    found = [sample for _, sample, _ in _chosen(lengths, 2)["ragged"]]
    assert found == ["sample 2", "sample 6"]


def test_a_unit_that_always_does_the_same_is_chosen_as_before(lengths):
    """There is no most where all are equal."""
    reasons = " ".join(reason for *_, reason in _chosen(lengths)["tir_exp"])
    assert "context" not in reasons
    assert "iterations" not in reasons
