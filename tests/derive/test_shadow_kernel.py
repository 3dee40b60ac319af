"""Shadow kernels."""

from __future__ import annotations

import pytest
from operator_kernels import kernel
from tvm import relax, tirx

from relax_tapml.derive._shadow_kernel import shadow_kernel_of
from relax_tapml.kernel_flow.expressions import nodes


def softmax(x):
    return relax.op.nn.softmax(x, axis=-1)


@pytest.mark.parametrize("body", [relax.op.exp, softmax], ids=["exp", "softmax"])
@pytest.mark.parametrize(("shape", "extent"), [((1, 1, 24, 16), 24), ((5, 24, 16), 5)])
def test_the_outermost_loop_with_turns_runs_in_parallel(body, shape, extent):
    """Not that over a batch of one; and none inside another."""
    function = shadow_kernel_of(kernel(body, (shape, "float32")), [1]).function
    loops = [f for f in nodes(function.body, tirx.For) if f.kind == tirx.ForKind.PARALLEL]
    assert {str(loop.extent) for loop in loops} == {str(extent)}
    inside = [inner for loop in loops for inner in nodes(loop.body, tirx.For)]
    assert all(inner.kind == tirx.ForKind.SERIAL for inner in inside)
