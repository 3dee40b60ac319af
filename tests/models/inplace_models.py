# ruff: noqa: N812 - TVMScript
"""Modules whose kernels write to their arguments, between operators that would fuse with them."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.frontend.model import Model, Sample


@I.ir_module
class Plain:
    """Nothing is overwritten."""

    @R.function
    def main(x: R.Tensor((4, 8), "float32")):
        with R.dataflow():
            o = R.exp(R.tanh(x))
            R.output(o)
        return o


@I.ir_module
class Square:
    """Between a sum, which reads the value before, and a quotient, which would fuse."""

    @T.prim_func(private=True, s_tir=True)
    def square(A: T.Buffer((4, 8), "float32")):
        for i, j in T.grid(4, 8):
            with T.sblock("square"):
                row, column = T.axis.remap("SS", [i, j])
                A[row, column] = A[row, column] * A[row, column]

    @R.function
    def main(x: R.Tensor((4, 8), "float32")):
        cls = Square
        with R.dataflow():
            h = R.exp(x)
            s = R.sum(h, axis=1, keepdims=True)
            q = R.call_tir_inplace(
                cls.square, (h,), inplace_indices=[0], out_ty=R.Tensor((4, 8), "float32")
            )
            o = R.divide(q, s)
            R.output(o)
        return o


@I.ir_module
class Chain:
    """Twice in the same memory; each is read before, by an operator that fuses with the last."""

    @T.prim_func(private=True, s_tir=True)
    def square(a: T.handle):
        n = T.int64()
        A = T.match_buffer(a, (n, 8), "float32")
        for i, j in T.grid(n, T.int64(8)):
            with T.sblock("square"):
                row, column = T.axis.remap("SS", [i, j])
                A[row, column] = A[row, column] * A[row, column]

    @R.function
    def main(x: R.Tensor(("n", 8), "float32")):
        n = T.int64()
        cls = Chain
        with R.dataflow():
            h = R.sqrt(R.exp(x))
            k = R.nn.relu(h)
            q = R.call_tir_inplace(
                cls.square, (h,), inplace_indices=[0], out_ty=R.Tensor((n, 8), "float32")
            )
            e = R.exp(q)
            r = R.call_tir_inplace(
                cls.square, (q,), inplace_indices=[0], out_ty=R.Tensor((n, 8), "float32")
            )
            o = R.multiply(R.multiply(r, k), e)
            R.output(o)
        return o


@I.ir_module
class Two:
    """One result in place, one in memory of its own."""

    @T.prim_func(private=True, s_tir=True)
    def both(
        A: T.Buffer((4, 8), "float32"),
        B: T.Buffer((4, 8), "float32"),
        C: T.Buffer((4, 8), "float32"),
    ):
        for i, j in T.grid(4, 8):
            with T.sblock("both"):
                row, column = T.axis.remap("SS", [i, j])
                C[row, column] = A[row, column] * B[row, column]
                A[row, column] = A[row, column] + B[row, column]

    @R.function
    def main(x: R.Tensor((4, 8), "float32"), y: R.Tensor((4, 8), "float32")):
        cls = Two
        with R.dataflow():
            h = R.exp(x)
            q = R.call_tir_inplace(
                cls.both,
                (h, y),
                inplace_indices=[0, -1],
                out_ty=[R.Tensor((4, 8), "float32"), R.Tensor((4, 8), "float32")],
            )
            a = q[0]
            b = q[1]
            o = R.divide(R.negative(a), R.exp(b))
            R.output(o)
        return o


def square() -> Model:
    """``exp(x) ** 2 / sum(exp(x))``."""
    return _model(
        Square, 1, lambda x: np.exp(x) ** 2 / np.exp(x).sum(1, keepdims=True, dtype="float32")
    )


def chain() -> Model:
    """``h ** 4 * h * exp(h ** 2)``, where ``h = exp(x / 2)``."""
    return _model(Chain, 1, lambda x: np.exp(x / 2) ** 5 * np.exp(np.exp(x)))


def two() -> Model:
    """``-(exp(x) + y) / exp(exp(x) * y)``."""
    return _model(Two, 2, lambda x, y: -(np.exp(x) + y) / np.exp(np.exp(x) * y))


def _model(module, inputs, reference):
    rng = np.random.default_rng(0)
    arrays = tuple(rng.uniform(-1, 1, (4, 8)).astype("float32") for _ in range(inputs))
    return Model(
        name=module.__name__,
        module=module,
        params={},
        samples=(Sample(name="first", arrays=arrays),),
        reference=lambda sample: [reference(*sample.arrays)],
    )
