"""Free axes: a kernel restricted to some of their values computes the same elements."""

from __future__ import annotations

import pytest
from kernels_of_axes import (
    adds_its_transpose,
    grouped_heads,
    half_of_the_rows,
    keeps_the_last,
    reads_neighbours,
)
from operator_kernels import kernel, layer_norm
from tvm import relax

from relax_tapml.kernel_flow.free_axes import free_axes
from relax_tapml.kernel_flow.plain_kernel import plain_kernel


def axes_of(function):
    """Return (result dims, input dims, is_counted) of each free axis."""
    return [
        (
            [(at.param, at.dim) for at in axis.results],
            [(at.param, at.dim) for at in axis.inputs],
            axis.is_counted,
        )
        for axis in free_axes(plain_kernel(function))
    ]


F = "float32"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            kernel(relax.op.matmul, ((5, 7), F), ((7, 6), F)),
            [([(2, 0)], [(0, 0)], False), ([(2, 1)], [(1, 1)], False)],
        ),
        (
            kernel(lambda x: relax.op.nn.softmax(x, axis=-1), ((2, 3, 8), F)),
            [([(1, 0)], [(0, 0)], False), ([(1, 1)], [(0, 1)], False)],
        ),
        (kernel(lambda x: relax.op.sum(x, axis=0), ((4, 6), F)), [([(1, 0)], [(0, 1)], False)]),
        (
            kernel(lambda x: relax.op.flip(x, axis=1), ((4, 6), F)),
            [([(1, 0)], [(0, 0)], False), ([(1, 1)], [], True)],
        ),
    ],
    ids=["matmul", "softmax", "sum", "flip"],
)
def test_free_axes_of_operators(function, expected):
    """Rows and columns of a product are free, what is summed over is not."""
    assert axes_of(function) == expected


def test_rows_of_a_norm_are_free():
    """The statistics go over the last axis, whose elements are read at all values."""
    function = kernel(layer_norm, ((3, 4, 8), F), ((8,), F), ((8,), F))
    found = axes_of(function)
    assert [results for results, _, _ in found] == [[(3, 0)], [(3, 1)], [(3, 2)]]
    # The last axis is free too, but of its input every element is needed.
    assert found[2][1] == [(1, 0), (2, 0)]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            grouped_heads,
            [
                ([(2, 0)], [(0, 0)], True),
                ([(2, 1)], [(0, 1)], False),
                ([(2, 2)], [(1, 1)], False),
            ],
        ),
        # The second axis of the tensor between is not free, so all of it is computed.
        (reads_neighbours, [([(1, 0)], [(0, 0)], False), ([(1, 1)], [], True)]),
        (half_of_the_rows, [([(1, 1)], [(0, 1)], False)]),
        (adds_its_transpose, [([(1, 0), (1, 1)], [(0, 0), (0, 1)], False)]),
        (keeps_the_last, [([(1, 0)], [(0, 0)], False)]),
    ],
    ids=lambda item: getattr(item, "__name__", "") or None,
)
def test_free_axes_of_kernels(function, expected):
    """Symbolic extents too; an axis where other elements of a result matter is not free."""
    assert axes_of(function) == expected
