# ruff: noqa: F841, N812, RET504 - TVMScript
"""Operators that each target lowers in its own way become units."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.passes.outline_dispatched_ops import OutlineDispatchedOps


def test_nothing_left_to_outline(apply):
    """A module whose operators have kernels is returned as it is."""

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 8), "float32")):
            return R.call_dps_packed("my.function", (x,), out_ty=R.Tensor((4, 8), "float32"))

    assert apply(OutlineDispatchedOps(), Before).same_as(Before)


def test_equal_calls_share_a_unit(apply):
    """Named by the operator, whose attributes are inside; another axis is another unit.

    A name that is taken is left alone.
    """

    @I.ir_module
    class Before:
        @R.function(private=True)
        def cumsum1(x: R.Tensor((4, 8), "float32")) -> R.Tensor((4, 8), "float32"):
            return x

        @R.function
        def main(x: R.Tensor((4, 8), "float32")):
            a = R.cumsum(x, axis=1)
            b = R.cumsum(a, axis=1)
            c = R.cumsum(b, axis=0)
            return c

    @I.ir_module
    class Expected:
        @R.function(private=True)
        def cumsum1(x: R.Tensor((4, 8), "float32")) -> R.Tensor((4, 8), "float32"):
            return x

        @R.function(private=True)
        def unit_cumsum(x: R.Tensor((4, 8), "float32")) -> R.Tensor((4, 8), "float32"):
            R.func_attr({"relax_tapml.unit": "cumsum"})
            result = R.cumsum(x, axis=1)
            return result

        @R.function(private=True)
        def unit_cumsum2(x: R.Tensor((4, 8), "float32")) -> R.Tensor((4, 8), "float32"):
            R.func_attr({"relax_tapml.unit": "cumsum2"})
            result = R.cumsum(x, axis=0)
            return result

        @R.function
        def main(x: R.Tensor((4, 8), "float32")):
            cls = Expected
            a = cls.unit_cumsum(x)
            b = cls.unit_cumsum(a)
            c = cls.unit_cumsum2(b)
            return c

    after = apply(OutlineDispatchedOps(), Before)
    tvm.ir.assert_structural_equal(after, Expected)
    assert apply(OutlineDispatchedOps(), after).same_as(after)


def test_tuples_and_constants(apply):
    """Tensors in a tuple become parameters, constants and shapes stay inside; a tuple may return.

    ``concat`` of tensors of unknown shape is one that LegalizeOps leaves.
    """

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(ndim=1, dtype="float32"), y: R.Tensor(ndim=1, dtype="float32")):
            c = R.concat((x, R.const([1.0], "float32"), y), axis=0)
            t = R.topk(c, k=1, ret_type="both")
            values = t[0]
            return values

    @I.ir_module
    class Expected:
        @R.function(private=True)
        def unit_concat(
            x: R.Tensor(ndim=1, dtype="float32"), y: R.Tensor(ndim=1, dtype="float32")
        ) -> R.Tensor(ndim=1, dtype="float32"):
            R.func_attr({"relax_tapml.unit": "concat"})
            result = R.concat((x, R.const([1.0], "float32"), y), axis=0)
            return result

        @R.function(private=True)
        def unit_topk(
            c: R.Tensor(ndim=1, dtype="float32"),
        ) -> R.Tuple(R.Tensor(ndim=1, dtype="float32"), R.Tensor(ndim=1, dtype="int32")):
            R.func_attr({"relax_tapml.unit": "topk"})
            result = R.topk(c, k=1, ret_type="both")
            return result

        @R.function
        def main(x: R.Tensor(ndim=1, dtype="float32"), y: R.Tensor(ndim=1, dtype="float32")):
            cls = Expected
            c = cls.unit_concat(x, y)
            t = cls.unit_topk(c)
            values = t[0]
            return values

    tvm.ir.assert_structural_equal(apply(OutlineDispatchedOps(), Before), Expected)


def test_undefined_dimensions_become_an_argument(apply):
    """``n`` is defined by a tensor of ``n`` rows, not by one of ``n * 2``."""

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 4), "float32"), y: R.Tensor(("n * 2", 4), "float32")):
            n = T.int64()
            a = R.cumsum(x, axis=0)
            b = R.cumsum(y, axis=0)
            return (a, b)

    @I.ir_module
    class Expected:
        @R.function(private=True)
        def unit_cumsum(x: R.Tensor(("n", 4), "float32")) -> R.Tensor(("n", 4), "float32"):
            n = T.int64()
            R.func_attr({"relax_tapml.unit": "cumsum"})
            result = R.cumsum(x, axis=0)
            return result

        @R.function(private=True)
        def unit_cumsum1(y: R.Tensor(("n * 2", 4), "float32"), shape: R.Shape(["n"])) -> R.Tensor(
            ("n * 2", 4), "float32"
        ):
            n = T.int64()
            R.func_attr({"relax_tapml.unit": "cumsum1"})
            result = R.cumsum(y, axis=0)
            return result

        @R.function
        def main(x: R.Tensor(("n", 4), "float32"), y: R.Tensor(("n * 2", 4), "float32")):
            n = T.int64()
            cls = Expected
            a = cls.unit_cumsum(x)
            b = cls.unit_cumsum1(y, R.shape([n]))
            return (a, b)

    tvm.ir.assert_structural_equal(apply(OutlineDispatchedOps(), Before), Expected)


def test_a_shape_that_is_computed_keeps_its_operators_in_place(apply):
    """No function could name it in its type."""

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 6), "float32"), s: R.Shape(ndim=2)):
            y = R.reshape(x, s)
            z = R.cumsum(y, axis=0)
            return z

    assert apply(OutlineDispatchedOps(), Before).same_as(Before)


def test_outputs_stay_the_same(apply):
    """Compiled with and without the pass, bit for bit."""

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 4), "float32")):
            n = T.int64()
            with R.dataflow():
                a = R.concat((x, x), axis=0)
                b = R.cumsum(a, axis=0)
                c = R.sort(b, axis=1)
                t = R.topk(c, k=2, axis=1, ret_type="both")
                d = t[0]
                e = t[1]
                R.output(d, e)
            return (d, e)

    legal = relax.transform.LegalizeOps()(Before)
    x = tvm.runtime.tensor(np.random.default_rng(0).standard_normal((3, 4)).astype("float32"))
    outputs = []
    for module in (legal, apply(OutlineDispatchedOps(), legal)):
        vm = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
        outputs.append([item.numpy().tobytes() for item in vm["main"](x)])
    assert outputs[0] == outputs[1]
