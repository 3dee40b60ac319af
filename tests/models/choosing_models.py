# ruff: noqa: N812 - TVMScript
"""Models that choose by a score, and kernels of theirs that choose otherwise or wrongly."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.arrays import Array
from relax_tapml.derive._chooser import choosers
from relax_tapml.frontend.model import Model, Sample

SCORES = np.array([[0.5, 2, 2, 1], [3, 1, 0, -1], [1, 1, 1, 1]], "float32")
TABLE = np.random.default_rng(0).uniform(-1, 1, (4, 6)).astype("float32")
ROUTES = np.array([[0.5, 2, 2, 1], [3, 1, 1, 1], [4, 3, 1, 2]], "float32")


@I.ir_module
class Pick:
    """A row of a table for each row of scores; the wrap of negative indices fuses with argmax."""

    @R.function
    def main(x: R.Tensor((3, 4), "float32"), table: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            i = R.argmax(x, axis=1)
            wrapped = R.where(R.less(i, R.const(0, "int64")), R.add(i, R.const(4, "int64")), i)
            y = R.tanh(R.take(table, wrapped, axis=0))
            R.output(y)
        return y


@I.ir_module
class Lowest:
    """An index as a result, with its axis, through arithmetic."""

    @R.function
    def main(x: R.Tensor((3, 4), "float32")):
        with R.dataflow():
            y = R.multiply(R.argmin(x, axis=1, keepdims=True), R.const(2, "int64"))
            R.output(y)
        return y


@I.ir_module
class Route:
    """The two best experts of each row, weighted."""

    @R.function
    def main(x: R.Tensor((3, 4), "float32"), table: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            best = R.topk(x, k=2, axis=1, ret_type="both", dtype="int64")
            weights = R.expand_dims(best[0], axis=2)
            y = R.sum(R.multiply(R.take(table, best[1], axis=0), weights), axis=1)
            R.output(y)
        return y


@I.ir_module
class Inside:
    """One kernel chooses by the square and takes the row."""

    @T.prim_func(private=True, s_tir=True)
    def choose(
        x: T.Buffer((3, 4), "float32"),
        table: T.Buffer((4, 6), "float32"),
        y: T.Buffer((3, 6), "float32"),
    ):
        place = T.sblock_alloc_buffer((3,), "int32")
        best = T.sblock_alloc_buffer((3,), "float32")
        for i, k in T.grid(3, 4):
            with T.sblock("find"):
                row, column = T.axis.remap("SR", [i, k])
                with T.init():
                    place[row] = 0
                    best[row] = T.float32("-inf")
                if x[row, column] * x[row, column] > best[row]:
                    best[row] = x[row, column] * x[row, column]
                    place[row] = column
        for i, j in T.grid(3, 6):
            with T.sblock("take"):
                row, column = T.axis.remap("SS", [i, j])
                y[row, column] = table[place[row], column] * T.float32(2)

    @R.function
    def main(x: R.Tensor((3, 4), "float32"), table: R.Tensor((4, 6), "float32")):
        cls = Inside
        with R.dataflow():
            rows = R.call_tir(cls.choose, (x, table), out_ty=R.Tensor((3, 6), "float32"))
            y = R.exp(rows)
            R.output(y)
        return y


@I.ir_module
class Logits:
    """The scores are sums, two of them alike but for the order of their terms."""

    @R.function
    def main(
        x: R.Tensor((3, 8), "float32"),
        w: R.Tensor((8, 4), "float32"),
        table: R.Tensor((4, 6), "float32"),
    ):
        with R.dataflow():
            i = R.argmax(R.matmul(x, w), axis=1)
            y = R.tanh(R.take(table, i, axis=0))
            R.output(i, y)
        return (i, y)


def pick() -> Model:
    """``Pick`` with equal scores in two rows."""
    return _model(Pick, SCORES, params={"table": TABLE})


def lowest() -> Model:
    """``Lowest`` with equal scores in two rows."""
    return _model(Lowest, -SCORES)


def route(reference: Callable[[Sample], list[Array]] | None = None) -> Model:
    """``Route`` with equal scores in two rows."""
    return _model(Route, ROUTES, params={"table": TABLE}, reference=reference)


def inside() -> Model:
    """``Inside`` with equal squares in two rows."""
    scores = np.array([[0.5, 2, -2, 1], [3, 1, 0, -1], [1, -1, 0.5, -1.5]], "float32")
    return _model(Inside, scores, params={"table": TABLE})


def logits() -> Model:
    """``Logits`` whose two best columns are equal in exact arithmetic.

    Products need no rounding, so fused instructions give the same sums as others; their sums do.
    """
    rng = np.random.default_rng(32)
    halves = np.round(rng.uniform(0.5, 1, (3, 4)) * 2**4).astype("float32") / 2**4
    w = rng.uniform(-0.1, 0.1, (8, 4)).astype("float32")
    w[:, 1] = np.round(rng.uniform(0.5, 1, 8) * 2**20) / 2**20
    w[:, 3] = w[[1, 0, 3, 2, 5, 4, 7, 6], 1]
    return _model(Logits, np.repeat(halves, 2, axis=1), params={"w": w, "table": TABLE})


def _model(
    module: Any,
    scores: Array,
    *,
    params: dict[str, Array] | None = None,
    reference: Callable[[Sample], list[Array]] | None = None,
) -> Model:
    return Model(
        name=module.__name__,
        module=module,
        params=params or {},
        samples=(Sample(name="first", arrays=(scores,)),),
        reference=reference,
    )


def last_of_equals(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Choose the last of equal scores, and be right otherwise."""
    text = kernel.script()
    for first, last in (
        # best == x and index < k
        (r"(_red_temp_v0\[[^]]*\]) < (v_k1)", r"\1 > \2"),
        (r"(\* x\[row, column\]) > best", r"\1 >= best"),
    ):
        text = re.sub(first, last, text)
    return _parsed(kernel, text)


def second_best(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Look at all scores but the first."""
    text = re.sub(r"T\.Select\((\w+_red_temp_v1)", r"T.Select(v_k1 == 0 or \1", kernel.script())
    return _parsed(kernel, re.sub(r"if (x\[row)", r"if column > 0 and \1", text))


def row_before(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Take the row before the one that was chosen."""
    return _parsed(
        kernel, re.sub(r"table\[place\[row\]", "table[T.max(place[row] - 1, 0)", kernel.script())
    )


def sums_backwards(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Add the terms of a sum of eight in the opposite order."""
    text = re.sub(r"\bv_k\b(?=[],])", "T.int64(7) - v_k", kernel.script())
    return _parsed(
        kernel, re.sub(r'(remap\("SSR".*|v_\w+, v_\w+, )T\.int64\(7\) - v_k', r"\1v_k", text)
    )


def _parsed(kernel: tirx.PrimFunc, text: str) -> tirx.PrimFunc:
    assert text != kernel.script(), f"nothing to change in {text}"
    return tvm.script.from_source(text).with_attrs(dict(kernel.attrs))


def fused(module: tvm.IRModule) -> tirx.PrimFunc:
    """Return the one kernel of a lowered module that chooses."""
    (kernel,) = (
        f for f in module.functions.values() if isinstance(f, tirx.PrimFunc) and choosers(f)
    )
    return kernel
