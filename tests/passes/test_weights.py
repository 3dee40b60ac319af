# ruff: noqa: N812 - TVMScript
"""Which values go by the name of a weight."""

from __future__ import annotations

import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.passes.value_leaves import Leaf
from relax_tapml.passes.weights import Weights


@I.ir_module
class Module:
    @R.function(pure=False)
    def main(
        x: R.Tensor((4,), "float32"),
        w: R.Tensor((4,), "float32"),
        packed: R.Tuple(R.Tensor((4,), "float32"), R.Tensor((4,), "float32")),
        written: R.Tensor((4,), "float32"),
    ):
        R.func_attr({"num_input": 1})
        alias = packed[1]
        renamed = written
        _ = R.call_packed("write", alias, renamed, ty_args=R.Tuple([]))
        return R.add(x, w)


def test_parameters_after_the_inputs_are_weights():
    """A leaf of a tuple has its path in its name."""
    main = Module["main"]
    x, w, packed, _ = main.params
    weights = Weights(main, Module)
    assert weights.name(Leaf(x)) is None
    assert weights.name(Leaf(w)) == "w"
    assert weights.name(Leaf(packed, (0,))) == "packed.0"


def test_what_a_call_may_write_to_is_no_weight():
    """However it is passed: renamed, or as an item of a tuple."""
    main = Module["main"]
    _, _, packed, written = main.params
    weights = Weights(main, Module)
    assert weights.name(Leaf(packed, (1,))) is None
    assert weights.name(Leaf(written)) is None


def test_without_a_number_of_inputs_nothing_is_a_weight():
    """A subroutine's parameters may be anything."""
    main = Module["main"].without_attr("num_input")
    weights = Weights(main, tvm.IRModule({"main": main}))
    assert [weights.name(Leaf(param)) for param in main.params[:2]] == [None, None]
