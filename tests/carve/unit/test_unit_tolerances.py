"""Tolerances of a unit, from its module."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.carve.unit.unit_tolerances import UnitTolerances, no_more_than_rule
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.rule import tolerance_for


@I.ir_module
class OfConstant:
    @R.function(private=True)
    def unit_cumsum() -> R.Tensor((3,), "float32"):
        R.func_attr({"relax_tapml.unit": "cumsum"})
        result: R.Tensor((3,), "float32") = R.cumsum(R.const([1.0, 2.0, 3.0], "float32"), axis=0)
        return result

    @R.function
    def main() -> R.Tensor((3,), "float32"):
        result: R.Tensor((3,), "float32") = OfConstant.unit_cumsum()
        return result


def test_an_operator_of_a_constant_is_judged_by_its_dtype():
    """It has no input to derive from; masks of decoders begin with one."""
    oracle = np.float32([1, 3, 6])
    (tolerance,) = UnitTolerances(OfConstant).of("main", [], [oracle])
    assert "no PrimFunc" in tolerance.origin
    assert (tolerance.allowed(oracle) < 1e-3).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_dtype_decides_where_a_derived_bound_is_larger_or_lost(dtype):
    """As those of an online softmax are for a long sequence; what the source lost is not judged."""
    oracle = np.array([1, 2, 4, np.inf], dtype)
    derived = ElementTolerance(bound=np.array([1e-9, 1, np.nan, np.nan]), origin="its errors")
    rule = tolerance_for(oracle).allowed(oracle)
    found = no_more_than_rule(derived, oracle)
    bound = found.allowed(oracle)
    assert 0 < bound[0] < 1e-8
    np.testing.assert_allclose(bound[1:3], rule[1:3], rtol=0.01)
    assert (bound[1:3] >= rule[1:3]).all()  # Rounded up.
    assert np.isnan(found.bound[3].astype("float64"))
    assert "its errors; at most" in found.origin


def test_what_low_precision_functions_add_is_not_cut_off():
    """A sine that is 5e-4 off is legal in a browser, whatever float32 allows elsewhere."""
    oracle = np.array([1, 2, np.inf], "float32")
    derived = ElementTolerance(
        bound=np.array([1e-9, np.nan, np.nan]),
        low_precision=np.array([5e-4, 1, np.nan]),
        origin="o",
    )
    found = no_more_than_rule(derived, oracle)
    assert 4.9e-4 < float(found.low_precision[0]) < 6e-4
    assert float(found.low_precision[1]) == float(found.bound[1])  # Nobody knows what they add.


def test_a_sequence_without_tokens_may_have_any_mask():
    """A kernel of many threads adds the logarithm of their number to it, and no weight is left."""
    oracle = np.float32([-50000, 5.0])
    derived = ElementTolerance(bound=np.float32([1e-3, 1e-5]), origin="derived")
    found = no_more_than_rule(derived, oracle)
    threads = np.log2(1024)
    assert threads < found.allowed(oracle)[0] < 100
    assert found.allowed(oracle)[1] < 1.1e-5
    assert "no token" in found.origin
