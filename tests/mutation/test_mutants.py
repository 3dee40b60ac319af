"""Mutants: each mistake, at each place, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_kernels import KERNELS, computed, empty_output, inputs_of, kernel
from tvm import relax

from mutation.kernel import build_kernels
from mutation.mutants import KINDS, mutants
from relax_tapml._compat import verify_well_formed

QUICK = {"kind": "llvm", "opt-level": 0}


def results(function, kind, inputs, where=""):
    """Return what the kernel computes, and each of its mutants of a kind."""
    chosen = [m for m in mutants(function) if m.kind == kind and where in m.where]
    empty = empty_output(function)
    first, *rest = build_kernels([function, *(m.function for m in chosen)], QUICK)
    assert rest, f"no mutant of kind {kind}"
    return computed(first, inputs, empty), [computed(built, inputs, empty) for built in rest]


@pytest.mark.parametrize("name", KERNELS)
def test_mutants_are_well_formed_and_build(name):
    """It is a kernel like any other, with the parameters of the original."""
    function = KERNELS[name]
    found = list(mutants(function))
    assert found
    for mutant in found:
        assert verify_well_formed(mutant.function), mutant.where
        assert list(mutant.function.params) == list(function.params), mutant.where
        assert not tvm_ffi.structural_equal(mutant.function, function), mutant.where
    # Every third of the many mutants of one kind; all kinds are among them.
    by_kind = [[m for m in found if m.kind == kind][::3] for kind in KINDS]
    build_kernels([mutant.function for some in by_kind for mutant in some], QUICK)


def test_every_kind_of_mutant_is_made():
    """No family is dead: common operators have a place for each."""
    made = {mutant.kind for function in KERNELS.values() for mutant in mutants(function)}
    assert made == set(KINDS)


def test_mutants_come_in_the_same_order_and_leave_the_kernel_alone():
    """Whoever goes on after a crash finds the same list; building changes nothing either."""
    function = KERNELS["layer_norm"]
    before = tvm.ir.save_json(function)
    first, second = list(mutants(function)), list(mutants(function))
    build_kernels([mutant.function for mutant in first[:20]], QUICK)
    assert [(m.kind, m.where) for m in first] == [(m.kind, m.where) for m in second]
    assert all(tvm_ffi.structural_equal(a.function, b.function)
               for a, b in zip(first, second, strict=True))  # fmt: skip
    assert tvm.ir.save_json(function) == before


def test_every_mutant_says_where_it_is_wrong():
    """The text names the block; and at one place no two mutants of a kind say the same."""
    for mutant in mutants(KERNELS["softmax"]):
        assert mutant.where.startswith("T_softmax"), mutant.where
        assert len(mutant.where) < 160


@settings(max_examples=5)
@given(st.integers(2, 5), st.integers(2, 7))
def test_off_by_one_reads_the_neighbour(rows, columns):
    """Along each axis and in both directions; around the tensor lies a copy of it."""
    function = kernel(relax.op.negative, ((rows, columns), "float32"))
    (x,) = inputs_of(function)
    _, found = results(function, "index off by one", [x])
    flat = -x.reshape(-1)
    expected = [np.roll(flat, -step).reshape(x.shape) for step in (columns, -columns, 1, -1)]
    for actual, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_a_dropped_iteration_leaves_the_last_term_out():
    """The sum of all but the last."""
    (x,) = inputs_of(KERNELS["sum"])
    _, (found,) = results(KERNELS["sum"], "dropped last iteration of a reduction", [x])
    np.testing.assert_allclose(found, x[:, :-1].sum(axis=1), rtol=1e-5, atol=1e-6)


def test_a_dropped_store_leaves_the_last_element_as_it_was():
    """All others are right."""
    (x,) = inputs_of(KERNELS["exp"])
    right, (found,) = results(KERNELS["exp"], "dropped last store", [x])
    np.testing.assert_array_equal(found[:-1], right[:-1])
    assert abs(found[-1]) < 1e-10


def test_a_missing_initialisation_adds_what_was_there():
    """Always the same, so that verdicts are too."""
    (x,) = inputs_of(KERNELS["sum"])
    right, (found,) = results(KERNELS["sum"], "missing initialisation", [x])
    np.testing.assert_allclose(found, right + 1, rtol=1e-5)


def test_a_narrow_accumulator_stops_growing():
    """In float16 2048 + 1 is 2048, in bfloat16 256 + 1 is 256."""
    function = kernel(lambda x: relax.op.sum(x, axis=1), ((1, 4000), "float32"))
    ones = np.ones((1, 4000), np.float32)
    right, found = results(function, "narrowed accumulator", [ones])
    assert right == [4000]
    assert [float(value[0]) for value in found] == [2048, 256]


def test_swapped_lanes_are_those_of_pairs():
    """0 1 2 3 becomes 1 0 3 2."""
    _, (found,) = results(KERNELS["exp"], "lane swap", [np.arange(8, dtype=np.float32)])
    right = np.exp(np.array([1, 0, 3, 2, 5, 4, 7, 6], np.float32))
    np.testing.assert_allclose(found, right, rtol=1e-5)


def test_an_ignored_transpose_returns_the_input():
    """A square matrix shows nothing in its shape."""
    (x,) = inputs_of(KERNELS["transpose"])
    _, (found,) = results(KERNELS["transpose"], "transpose ignored", [x])
    np.testing.assert_array_equal(found, x)


def test_nibbles_in_the_wrong_order_are_reversed_in_their_word():
    """The last of 8 comes first."""
    inputs = inputs_of(KERNELS["unpack_int4"])
    right, (found,) = results(KERNELS["unpack_int4"], "nibble order", inputs)
    reversed_words = right.reshape(4, 2, 8)[:, :, ::-1].reshape(4, 16)
    np.testing.assert_array_equal(found, reversed_words)


def test_nibbles_may_be_counted_by_a_table_of_shifts():
    """The table is then read from its other end."""
    word, shifts = np.array([[0x76543210]], np.int32), np.arange(0, 32, 4, dtype=np.int32)
    function = kernel(relax.op.right_shift, ((1, 1), "int32"), ((8,), "int32"))
    right, (found,) = results(function, "nibble order", [word, shifts])
    np.testing.assert_array_equal(right & 15, [range(8)])
    np.testing.assert_array_equal(found & 15, [range(7, -1, -1)])


def test_softmax_without_maximum_overflows_only_above_88():
    """It is right for what random inputs look like."""
    small, large = np.eye(8, dtype=np.float32), 100 * np.eye(8, dtype=np.float32)
    right, (found,) = results(KERNELS["softmax"], "softmax without maximum", [small])
    np.testing.assert_allclose(found, right, rtol=1e-5)
    right, (found,) = results(KERNELS["softmax"], "softmax without maximum", [large])
    assert np.isfinite(right).all()
    assert np.isnan(found).any()


def test_the_edge_of_a_mask_is_included_or_not():
    """Only where both sides are equal is it wrong."""
    inputs = inputs_of(KERNELS["mask"])
    i, j = (array for array in inputs if array.dtype == np.int64)
    right, (found,) = results(KERNELS["mask"], "wrong edge", inputs, where="T_less_equal:")
    np.testing.assert_array_equal(found != right, i == j)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_truncating_cast_never_rounds_away_from_zero(seed):
    """And it is off by at most one unit in the last place."""
    x = (np.random.default_rng(seed).standard_normal(8) * 10).astype(np.float32)
    function = KERNELS["to_half"]
    built = build_kernels([m.function for m in mutants(function) if m.kind == "truncating cast"])
    found = computed(built[0], [x], np.zeros(8, np.float16)).astype(np.float32)
    assert (np.abs(found) <= np.abs(x)).all()
    assert (np.abs(found - x) <= np.spacing(np.abs(found).astype(np.float16))).all()


def test_swapped_operands_are_those_of_operations_with_an_order():
    """a / b becomes b / a; a + b has no such mutant."""
    found = {m.where for m in mutants(KERNELS["difference"]) if m.kind == "swapped operands"}
    assert len(found) == 2
    assert {where.partition(":")[0] for where in found} == {"T_divide", "T_subtract"}
