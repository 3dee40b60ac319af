"""A GeLU that overflows for large values, as a bring-up of Phi-2 met it.

Its tanh is ``(exp(2x) - 1) / (exp(2x) + 1)``, which is infinity / infinity from x = 45 on. Inputs
of the model go that far; standard normal ones do not.
"""

from __future__ import annotations

import numpy as np
import pytest
from operator_kernels import kernel
from tvm import relax

from mutation.detection import RANDOM, SUITE, Detector
from mutation.guarded import GuardedTensor
from mutation.kernel import build_kernels, output_tensors
from mutation.mutants import mutants
from mutation.unit_cases import KernelCase, KernelCases
from relax_tapml.compare.tolerances.rule import tolerance_for

SHAPE = (4, 256)
OVERFLOW = "function that overflows"


@pytest.fixture(scope="module")
def gelu():
    return kernel(relax.op.nn.gelu_tanh, (SHAPE, "float32"))


@pytest.fixture(scope="module")
def overflowing(gelu):
    (mutant,) = (m for m in mutants(gelu) if m.kind == OVERFLOW)
    return build_kernels([mutant.function])[0]


def detector(gelu, values):
    """Return a detector with one case, recorded on the correct kernel."""
    inputs = GuardedTensor(values)
    (oracle,) = build_kernels([gelu])[0]([inputs], output_tensors([values]))
    case = KernelCase(
        name="case0",
        inputs=(values,),
        oracles=(oracle,),
        tolerances=(tolerance_for(oracle),),
        scalars=(),
    )
    return Detector(KernelCases(unit="gelu", function=gelu, cases=(case,)))


def recorded():
    """What a layer of a model gives: most values small, one channel large."""
    values = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    values[:, 17] = [60, 41, 55, 38]
    return values


def test_random_normal_inputs_miss_it(gelu, overflowing):
    """With the same tolerance rule, on as many values, with several seeds."""
    for seed in range(5):
        values = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
        assert SUITE not in detector(gelu, values).carved(overflowing)
    assert RANDOM not in detector(gelu, recorded()).random(overflowing)


def test_a_carved_case_catches_it(gelu, overflowing):
    """NaN where the oracle is finite, at the large value; so do all tolerances, however wide."""
    found = detector(gelu, recorded()).carved(overflowing)
    assert "NaN where the oracle is finite" in found[SUITE]
    assert "[0, 17]" in found[SUITE]
    assert "MLC 1e-2, 1" in found


def test_it_is_not_taken_for_equivalent(gelu, overflowing):
    """Also where the recorded values are small, large inputs show it; the report calls them far."""
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    difference = detector(gelu, values).difference(overflowing)
    assert difference is not None
    assert not difference.is_near
    assert "NaN" in difference.text


def test_the_correct_kernel_is_not_accused(gelu):
    """By no way of comparing."""
    (kernel_itself,) = build_kernels([gelu])
    found = detector(gelu, recorded())
    assert found.carved(kernel_itself) == {}
    assert found.random(kernel_itself) == {}
    assert found.difference(kernel_itself) is None
