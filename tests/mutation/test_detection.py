"""What a detector finds in a kernel, and how it reads a suite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_kernels import KERNELS, computed, empty_output, inputs_of, kernel
from tvm import relax

from mutation.detection import FIXED, RANDOM, SUITE, Detector
from mutation.kernel import build_kernels
from mutation.mutants import mutants
from mutation.operator_kind import operator_kind
from mutation.random_inputs import normal_inputs, wide_inputs
from mutation.unit_cases import KernelCase, KernelCases, kernel_cases
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.suite.open_suite import open_suite


def cases_of(function, inputs):
    """Return one case, recorded on the kernel itself."""
    oracles = (computed(build_kernels([function])[0], inputs, empty_output(function)),)
    case = KernelCase(
        name="case0",
        inputs=tuple(inputs),
        oracles=oracles,
        tolerances=tuple(tolerance_for(oracle) for oracle in oracles),
        scalars=(),
    )
    return KernelCases(unit="unit", function=function, cases=(case,))


def test_a_suite_is_read_as_calls_of_its_kernels(moved_suite):
    """The kernel gives the oracles of every case, for all units of the suite."""
    opened = open_suite(moved_suite)
    for unit in opened.manifest.units:
        found = kernel_cases(opened, unit)
        assert len(found.cases) == len(opened.manifest.units[unit].cases)
        (built,) = build_kernels([found.function])
        assert Detector(found).carved(built) == {}


def test_a_suite_catches_the_mutants_of_its_units(moved_suite):
    """A suite that passes on a broken kernel is a failed test."""
    opened = open_suite(moved_suite)
    (unit,) = (name for name in opened.manifest.units if "matmul" in name)
    found = kernel_cases(opened, unit)
    detector = Detector(found)
    chosen = list(mutants(found.function))
    missed = []
    for mutant, built in zip(chosen, build_kernels([m.function for m in chosen]), strict=True):
        if SUITE not in detector.carved(built) and detector.difference(built) is not None:
            missed.append(mutant.where)
    assert missed == []


def test_only_what_agrees_everywhere_is_equivalent():
    """The kernel itself agrees with itself on all kinds of inputs; a wrong one does not."""
    function = kernel(lambda x: relax.op.sum(relax.op.abs(x), axis=1), ((4, 32), "float32"))
    detector = Detector(cases_of(function, inputs_of(function)))
    assert detector.difference(build_kernels([function])[0]) is None
    (wrong,) = (m for m in mutants(function) if m.kind == "missing initialisation")
    difference = detector.difference(build_kernels([wrong.function])[0])
    assert difference is not None
    assert difference.is_near


@pytest.mark.parametrize("way", [SUITE, *FIXED])
def test_a_crude_mistake_is_found_by_every_way(way):
    """A power of two for one of e is beyond all tolerances, if the values are large."""
    function = KERNELS["exp"]
    detector = Detector(cases_of(function, [np.full(8, 5, np.float32)]))
    (mutant,) = (m for m in mutants(function) if m.kind == "wrong function")
    assert way in detector.carved(build_kernels([mutant.function])[0])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(-5, 5), st.integers(0, 20))
def test_random_whole_numbers_stay_in_the_recorded_range(seed, low, width):
    """They may be indices; shapes and dtypes are kept too."""
    recorded = [np.array([low, low + width], np.int64), np.ones((2, 3), np.float16)]
    every = [normal_inputs(recorded, seed), *(w.arrays for w in wide_inputs(recorded, seed))]
    for whole, values in every:
        assert low <= whole.min()
        assert whole.max() <= low + width
        assert (whole.dtype, whole.shape) == (np.int64, (2,))
        assert (values.dtype, values.shape) == (np.float16, (2, 3))
        assert np.isfinite(values).all()


def test_small_bool_inputs_are_tried_in_all_states():
    """Every combination, whatever was recorded."""
    recorded = [np.array([True, True, False])]
    tried = {tuple(w.arrays[0].tolist()) for w in wide_inputs(recorded, 0)}
    assert len(tried) == 8


def test_inputs_near_the_recorded_ones_are_in_their_range():
    """At most twice as large; masks stay masks, and the far kinds come last."""
    recorded = [np.array([-3.4e38, 0.5, 2.0, -1.0], np.float32)]
    wide = list(wide_inputs(recorded, 0))
    assert [w.is_near for w in wide] == sorted((w.is_near for w in wide), reverse=True)
    for kind in (w for w in wide if w.is_near):
        usual = kind.arrays[0][np.abs(kind.arrays[0]) < 1e30]
        assert np.abs(usual).max() <= 4
        assert usual.size == 3


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("fused_matmul_add4", "matmul"),
        ("fused_reshape10_gelu_reshape11", "activation"),
        ("take1", "gather"),
        ("sum", "reduction"),
        ("maximum", "arithmetic"),
        ("transpose4", "data movement"),
        ("fused_batch_norm2_relu2", "norm"),
    ],
)
def test_a_unit_is_named_after_the_operator_that_says_most(unit, kind):
    """For the rows of a report."""
    assert operator_kind(unit) == kind


# A GeLU that overflows for large values, as a bring-up of Phi-2 met it: its tanh is
# (exp(2x) - 1) / (exp(2x) + 1), which is infinity / infinity from x = 45 on. Inputs of the model go
# that far; standard normal ones do not.
SHAPE = (4, 256)


@pytest.fixture(scope="module")
def gelu():
    return kernel(relax.op.nn.gelu_tanh, (SHAPE, "float32"))


@pytest.fixture(scope="module")
def overflowing(gelu):
    (mutant,) = (m for m in mutants(gelu) if m.kind == "function that overflows")
    return build_kernels([mutant.function])[0]


def recorded():
    """What a layer of a model gives: most values small, one channel large."""
    values = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    values[:, 17] = [60, 41, 55, 38]
    return values


def test_random_normal_inputs_miss_an_overflow(gelu, overflowing):
    """With the same tolerance rule, on as many values, with several seeds."""
    for seed in range(5):
        values = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
        assert SUITE not in Detector(cases_of(gelu, [values])).carved(overflowing)
    assert RANDOM not in Detector(cases_of(gelu, [recorded()])).random(overflowing)


def test_a_carved_case_catches_an_overflow(gelu, overflowing):
    """NaN where the oracle is finite, at the large value; so do all tolerances, however wide."""
    found = Detector(cases_of(gelu, [recorded()])).carved(overflowing)
    assert "NaN where the oracle is finite" in found[SUITE]
    assert "[0, 17]" in found[SUITE]
    assert "MLC 1e-2, 1" in found


def test_an_overflow_is_not_taken_for_equivalent(gelu, overflowing):
    """Also where the recorded values are small, large inputs show it; the report calls them far."""
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    difference = Detector(cases_of(gelu, [values])).difference(overflowing)
    assert difference is not None
    assert not difference.is_near
    assert "NaN" in difference.text


def test_the_correct_kernel_is_not_blamed(gelu):
    """By no way of comparing."""
    (kernel_itself,) = build_kernels([gelu])
    found = Detector(cases_of(gelu, [recorded()]))
    assert found.carved(kernel_itself) == {}
    assert found.random(kernel_itself) == {}
    assert found.difference(kernel_itself) is None
