# ruff: noqa: N812 - TVMScript
"""Outputs that come straight from a function with values in [-1, 1]."""

from __future__ import annotations

import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.passes.bounded_outputs import bounded_outputs


@I.ir_module
class Scores:
    @R.function
    def main(x: R.Tensor((4, 8), "float32"), w: R.Tensor((8, 4), "float32")):
        with R.dataflow():
            s = R.sigmoid(x)
            halves = R.split(s, 2, axis=1)
            left = R.reshape(halves[0], (16,))
            t = R.tanh(R.matmul(x, w))
            joined = R.concat((t, halves[1]), axis=0)
            mixed = R.concat((t, w), axis=0)
            twice = R.add(s, s)
            R.output(left, joined, mixed, twice)
        return (left, (joined, mixed), twice, x)


def test_an_output_is_bounded_if_only_moves_come_after_the_function():
    """Of a concatenation all parts must be; arithmetic ends it."""
    before = Scores.script()
    assert bounded_outputs(Scores, "main") == [True, True, False, False, False]
    assert Scores.script() == before


def test_a_single_output_that_is_no_tuple():
    """As a function written by hand returns it."""

    @I.ir_module
    class Single:
        @R.function
        def main(x: R.Tensor((1, "n"), "float32")) -> R.Tensor((1, "n"), "float32"):
            with R.dataflow():
                y = R.nn.softmax(x)
                R.output(y)
            return y

    assert bounded_outputs(Single, "main") == [True]


def test_of_a_lowered_module_nothing_is_known():
    """A kernel may do anything."""
    lowered = tvm.relax.transform.LegalizeOps()(Scores)
    assert not any(bounded_outputs(lowered, "main"))
