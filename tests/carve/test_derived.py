"""Tolerances of a unit, from its module."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.carve.derived import UnitTolerances


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
