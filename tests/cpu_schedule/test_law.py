"""A schedule changes nothing that a kernel computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from four_bit_product import four_bit_product
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduled_kernels import (
    Tensor,
    arguments,
    differences,
    relax_kernels,
    run,
    scheduled,
)
from tvm import relax

op = relax.op
EXTENTS = st.sampled_from([1, 2, 3, 5, 7, 8, 16, 17, 33, 48, 64, 65, 70, 100])
ROWS = st.sampled_from([None, 0, 1, 2, 3, 5, 17, 33, 64])
LENGTHS = st.sampled_from([None, 20, 100])
FLOATS = st.sampled_from(["float32", "float16", "bfloat16", "float64"])
DTYPES = st.sampled_from(["float32", "float16", "bfloat16", "float64", "int32", "int8"])


def _product(draw: Any) -> Any:
    dtype, b, m, n, k = draw(DTYPES), draw(st.sampled_from([1, 3])), draw(ROWS), *_two(draw)
    tensors = [Tensor(shape=shape, dtype=dtype) for shape in ([b, m, k], [k, n], [n])]

    def operators(builder: Any, x: Any, w: Any, c: Any) -> Any:
        return op.nn.relu(op.add(builder.emit(op.matmul(x, w)), c))

    return tensors, operators


def _wide_product(draw: Any) -> Any:
    dtype = draw(st.sampled_from([("float16", "float32"), ("int8", "int32")]))
    m, n, k = draw(ROWS), *_two(draw)
    tensors = [Tensor(shape=shape, dtype=dtype[0]) for shape in ([m, k], [n, k])]

    def operators(builder: Any, x: Any, w: Any) -> Any:
        return op.matmul(x, builder.emit(op.permute_dims(w)), out_dtype=dtype[1])

    return tensors, operators


def _batched(draw: Any) -> Any:
    dtype, m, n, k = draw(DTYPES), draw(ROWS), *_two(draw)
    form = draw(st.sampled_from(["bmk,bnk->bmn", "bmk,bkn->bmn", "bkm,bkn->bmn"]))
    sizes = {"b": 3, "m": m, "n": n, "k": k, draw(st.sampled_from("nkb")): draw(LENGTHS)}
    left, right = form.partition("->")[0].split(",")
    tensors = [Tensor(shape=[sizes[a] for a in part], dtype=dtype) for part in (left, right)]
    return tensors, lambda _, x, w: op.einsum((x, w), form)


def _by_vector(draw: Any) -> Any:
    dtype, n, k = draw(DTYPES), *_two(draw)
    form = draw(st.sampled_from(["k,nk->n", "k,kn->n"]))
    sizes = {"n": n, "k": k}
    left, right = form.partition("->")[0].split(",")
    tensors = [Tensor(shape=[sizes[a] for a in part], dtype=dtype) for part in (left, right)]
    return tensors, lambda _, x, w: op.einsum((x, w), form)


def _four_bits(draw: Any) -> Any:
    dtype, m, n = draw(st.sampled_from(["float16", "float32"])), draw(ROWS), draw(EXTENTS)
    words = draw(st.sampled_from([1, 9, 100]))
    shapes = [([m, words * 8], dtype), ([n, words], "uint32"), ([n, words], dtype)]
    return [Tensor(shape=shape, dtype=kind) for shape, kind in shapes], four_bit_product


def _convolution(draw: Any) -> Any:
    dtype, n = draw(FLOATS), draw(EXTENTS)
    tensors = [Tensor(shape=s, dtype=dtype) for s in ([1, 3, 9, n + 2], [8, 3, 3, 3])]
    padding, strides = draw(st.sampled_from([(0, 1), (1, 1), (1, 2)]))
    return tensors, lambda _, x, w: op.nn.conv2d(x, w, padding=padding, strides=strides)


def _softmax(draw: Any) -> Any:
    tensor = Tensor(shape=[3, draw(ROWS), draw(LENGTHS)], dtype=draw(FLOATS))
    return [tensor], lambda _, x: op.nn.softmax(x, axis=-1)


def _reduction(draw: Any) -> Any:
    tensor = Tensor(shape=[3, draw(ROWS), draw(LENGTHS)], dtype=draw(DTYPES))
    axis = draw(st.sampled_from([[0], [1], [2], [0, 2], None]))
    make = draw(st.sampled_from([op.sum, op.max, op.min, op.prod]))
    return [tensor], lambda _, x: make(x, axis=axis)


def _choice(draw: Any) -> Any:
    dtype = draw(st.sampled_from(["float32", "float16", "int32"]))  # TVM builds no other one.
    tensor = Tensor(shape=[3, draw(ROWS), draw(EXTENTS)], dtype=dtype)
    axis = draw(st.sampled_from([0, 1, 2]))
    return [tensor], lambda _, x: op.argmax(x, axis=axis)


def _chain(draw: Any) -> Any:
    dtype, m, n = draw(DTYPES), draw(ROWS), draw(EXTENTS)
    tensors = [Tensor(shape=shape, dtype=dtype) for shape in ([3, m, n], [1, m, 1])]

    def operators(builder: Any, x: Any, y: Any) -> Any:
        return op.subtract(builder.emit(op.maximum(x, y)), builder.emit(op.negative(x)))

    return tensors, operators


def _transpose(draw: Any) -> Any:
    tensor = Tensor(shape=[2, draw(ROWS), draw(EXTENTS), 3], dtype=draw(DTYPES))
    axes = draw(st.permutations([0, 1, 2, 3]))
    return [tensor], lambda _, x: op.permute_dims(x, axes)


def _gather(draw: Any) -> Any:
    table = Tensor(shape=[50, draw(EXTENTS)], dtype=draw(DTYPES))
    indices = Tensor(shape=[draw(ROWS)], dtype="int32")
    return [table, indices], lambda _, x, i: op.take(x, i, axis=0)


def _joined(draw: Any) -> Any:
    dtype, m, n = draw(DTYPES), draw(ROWS), draw(EXTENTS)
    tensors = [Tensor(shape=shape, dtype=dtype) for shape in ([3, m, n], [3, m, 2])]
    return tensors, lambda _, x, y: op.concat((x, y), axis=2)


def _two(draw: Any) -> tuple[int, int]:
    return draw(EXTENTS), draw(EXTENTS)


KINDS = [
    _product,
    _wide_product,
    _batched,
    _by_vector,
    _four_bits,
    _convolution,
    _softmax,
    _reduction,
    _choice,
    _chain,
    _transpose,
    _gather,
    _joined,
]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4)
@given(data=st.data())
def test_a_schedule_keeps_every_bit(kind: Callable[[Any], Any], data: st.DataObject) -> None:
    """Of any kernel, for any shape and dtype, for NaN and infinities too."""
    tensors, operators = kind(data.draw)
    rows = data.draw(st.sampled_from([1, 2, 7, 33]))
    values = data.draw(st.sampled_from(["whole", "real", "special"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for function in relax_kernels(tensors, operators):
        made = scheduled(function)
        arrays = arguments(function, rows, rng, values)
        is_empty = any(array.size == 0 for array in arrays)
        assert made.same_as(function) is is_empty
        assert differences(run(function, arrays), run(made, arrays)) == 0
