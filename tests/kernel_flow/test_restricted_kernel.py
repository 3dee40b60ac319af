"""A kernel restricted to some values of its free axes computes the same elements."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from kernels_of_axes import adds_its_transpose, grouped_heads, reads_neighbours
from operator_kernels import kernel, layer_norm
from tvm import relax

from relax_tapml.kernel_flow.free_axes import free_axes
from relax_tapml.kernel_flow.plain_kernel import plain_kernel
from relax_tapml.kernel_flow.restricted_kernel import restricted_kernel

F = "float32"


def run(function, arrays):
    named = function.with_attr("global_symbol", "main")
    built = tvm.tirx.build(tvm.IRModule({"main": named}), target="llvm")
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    built["main"](*tensors)
    return [tensor.numpy() for tensor in tensors]


def softmax(x):
    return relax.op.nn.softmax(x, axis=-1)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (kernel(relax.op.matmul, ((5, 7), F), ((7, 6), F)), [(5, 7), (7, 6), (5, 6)]),
        (kernel(softmax, ((2, 3, 8), F)), [(2, 3, 8), (2, 3, 8)]),
        (kernel(layer_norm, ((3, 8), F), ((8,), F), ((8,), F)), [(3, 8), (8,), (8,), (3, 8)]),
        (kernel(lambda x: relax.op.flip(x, axis=1), ((4, 6), F)), [(4, 6), (4, 6)]),
        (
            kernel(relax.op.nn.conv2d, ((1, 3, 6, 6), F), ((4, 3, 3, 3), F)),
            [(1, 3, 6, 6), (4, 3, 3, 3), (1, 4, 4, 4)],
        ),
        (grouped_heads, [(8, 5, 16), (2, 5, 16), (8, 5, 5)]),
        (reads_neighbours, [(8, 8), (8, 8)]),
        (adds_its_transpose, [(8, 8), (8, 8)]),
    ],
)
def test_chosen_elements_are_computed(function, shapes):
    """By every free axis alone, and by all of them, in any order of the values."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(F) for shape in shapes]
    expected = run(plain_kernel(function), arrays)[-1]
    plain = plain_kernel(function)
    axes = free_axes(plain)
    assert axes
    last = len(shapes) - 1
    for some in ([axis] for axis in axes), (axes,):
        for chosen in some:
            given, picked, wanted = list(arrays), [], expected
            for axis in chosen:
                at = axis.results[0]
                values = rng.permutation(shapes[last][at.dim])[:3].astype(np.int64)
                picked.append(values)
                for place in (*axis.inputs, *axis.results):
                    given[place.param] = given[place.param].take(values, axis=place.dim)
                for place in axis.results:
                    wanted = wanted.take(values, axis=place.dim)
            given[last] = np.zeros_like(given[last])
            found = run(restricted_kernel(plain, chosen), [*given, *picked])[last]
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
