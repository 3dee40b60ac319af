"""Variants: other kernels that are right."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from operator_kernels import KERNELS, computed, empty_output, inputs_of

from mutation.kernel import build_kernels
from mutation.variants import KINDS, loops, variants
from relax_tapml._compat import verify_well_formed

QUICK = {"kind": "llvm", "opt-level": 0}
FLOATS = ("softmax", "layer_norm", "matmul", "exp", "silu", "difference")


def built_variants(function):
    """Build each variant alone: some schedules have no code for the CPU."""
    for variant in variants(function):
        try:
            (kernel,) = build_kernels([variant.function], QUICK)
        except Exception:
            continue
        yield variant, kernel


@pytest.mark.parametrize("name", FLOATS)
def test_every_variant_computes_the_same(name):
    """In exact arithmetic, so in float32 all but the last digits; bit for bit in other loops."""
    function = KERNELS[name]
    inputs, empty = inputs_of(function), empty_output(function)
    right = computed(build_kernels([function])[0], inputs, empty)
    count = 0
    for variant, kernel in built_variants(function):
        found = computed(kernel, inputs, empty)
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=1e-6, err_msg=variant.where)
        if variant.kind in loops.MAKERS:
            np.testing.assert_array_equal(found, right, err_msg=variant.where)
        count += 1
    assert count >= 5


def test_variants_are_well_formed_and_all_different():
    """None is the kernel itself, or another one."""
    function = KERNELS["softmax"]
    found = [variant.function for variant in variants(function)]
    for i, one in enumerate(found):
        assert verify_well_formed(one)
        assert len(one.params) == len(function.params)
        for other in [function, *found[:i]]:
            assert not tvm_ffi.structural_equal(one, other)


def test_every_kind_of_variant_is_made():
    """No family is dead."""
    made = {variant.kind for function in KERNELS.values() for variant in variants(function)}
    assert made == set(KINDS)


def test_schedules_leave_the_kernel_alone():
    """TVM's schedules write to what they are made from; it must be a copy."""
    function = KERNELS["layer_norm"]
    before = tvm.ir.save_json(function)
    first = [(v.kind, v.where) for v in variants(function)]
    assert [(v.kind, v.where) for v in variants(function)] == first
    assert tvm.ir.save_json(function) == before


def test_a_seed_changes_tile_sizes():
    """The same seed gives the same variants."""
    function = KERNELS["matmul"]
    assert {v.where for v in variants(function, seed=1)} != {v.where for v in variants(function)}


def test_partial_sums_really_change_the_order():
    """Otherwise nothing is learned about tolerances."""
    rng = np.random.default_rng(1)
    function = KERNELS["sum"]
    inputs = [(rng.standard_normal((4, 32)) * 1e3).astype(np.float32)]
    empty = empty_output(function)
    right = computed(build_kernels([function])[0], inputs, empty)
    differing = {
        variant.kind
        for variant, kernel in built_variants(function)
        if (computed(kernel, inputs, empty) != right).any()
    }
    assert {"partial sums", "pairwise sum", "backwards", "float64 accumulator"} <= differing
