"""A call with copies, evaluated as the smaller call that computes the held places only."""

from __future__ import annotations

import numpy as np
import pytest
from operator_kernels import kernel, layer_norm, module_of
from tvm import relax

from relax_tapml.carve.unit import choose_copies
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.choose_copies import Limits, copied_axes, with_copies
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.verdict import Verdict

F = "float32"
ROWS = 80
LIMITS = Limits(most_bytes=200, held_bytes=2000, weight_axes_bytes=200)


def drawn(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(F)


KERNELS = {
    "product": (
        kernel(relax.op.matmul, ((ROWS, 7), F), ((7, 6), F)),
        [drawn(ROWS, 7), drawn(7, 6)],
        np.empty((ROWS, 6), F),
    ),
    "both axes of a product": (
        kernel(relax.op.matmul, ((ROWS, 7), F), ((7, 640), F)),
        [drawn(ROWS, 7), drawn(7, 640)],
        np.empty((ROWS, 640), F),
    ),
    "softmax": (
        kernel(lambda x: relax.op.nn.softmax(x, axis=-1), ((2, ROWS, 8), F)),
        [drawn(2, ROWS, 8)],
        np.empty((2, ROWS, 8), F),
    ),
    "norm": (
        kernel(layer_norm, ((ROWS, 8), F), ((8,), F), ((8,), F)),
        [drawn(ROWS, 8), drawn(8), drawn(8)],
        np.empty((ROWS, 8), F),
    ),
    "choice": (
        kernel(lambda x: relax.op.argmax(x, axis=1), ((ROWS, 6), F)),
        [np.round(drawn(ROWS, 6))],
        np.empty(ROWS, "int64"),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_held_places_have_the_values_and_bounds_of_the_whole_call(name):
    function, inputs, like = KERNELS[name]
    module = module_of(function, inputs, like)
    unit = UnitTolerances(module)
    call = CallTensors(
        function="main", inputs=tuple(inputs), outputs=(like,), weights=(None,) * len(inputs)
    )
    copies = copied_axes(module, call, LIMITS)
    held = copies.held_inputs(inputs)
    assert sum(array.size for array in held) < sum(array.size for array in inputs)

    whole_inputs = copies.whole_inputs(held)
    [whole], [whole_tolerance] = unit.evaluated("main", whole_inputs, [like])
    smaller = unit.with_copies(copies)
    [value], [tolerance] = smaller.evaluated("main", held, copies.held_outputs([like]))

    assert value.size < whole.size
    np.testing.assert_array_equal(*copies.held_outputs([whole]), value)
    np.testing.assert_array_equal(*copies.whole_outputs([value]), whole)
    allowed = whole_tolerance.allowed(whole)
    np.testing.assert_array_equal(*copies.held_outputs([allowed]), tolerance.allowed(value))
    assert type(tolerance) is type(whole_tolerance)
    [of] = smaller.of("main", held, [value])
    np.testing.assert_array_equal(of.allowed(value), tolerance.allowed(value))


def test_what_is_too_long_as_a_whole_may_be_evaluated_in_part(monkeypatch):
    monkeypatch.setattr("relax_tapml.derive._evaluation.MOST_ITERATIONS", 3000)
    function, inputs, like = KERNELS["softmax"]
    module = module_of(function, inputs, like)
    unit = UnitTolerances(module)
    assert unit.evaluable("main", inputs, [like]) is None
    call = CallTensors(function="main", inputs=tuple(inputs), outputs=(like,), weights=(None,))
    copies = copied_axes(module, call, LIMITS)
    held = unit.with_copies(copies)
    assert held.evaluable("main", copies.held_inputs(inputs), copies.held_outputs([like]))


def test_one_array_that_is_two_inputs_has_copies_of_its_own_in_each(monkeypatch):
    """Along rows of the one and columns of the other; a store has equal tensors once."""
    monkeypatch.setattr(choose_copies, "RECORDED", LIMITS)
    x = drawn(ROWS, ROWS)
    function = kernel(relax.op.matmul, ((ROWS, ROWS), F), ((ROWS, ROWS), F))
    module = module_of(function, [x, x], x)
    recorded = CallTensors(function="main", inputs=(x, x), outputs=(x @ x,), weights=(None, None))
    [held] = with_copies(module, [recorded])
    rows, columns = held.inputs
    assert rows.shape[0] < ROWS == rows.shape[1] == columns.shape[0] > columns.shape[1]
    unit = UnitTolerances(module).with_copies(held.copies)
    [tolerance] = unit.of("main", held.inputs, held.outputs)
    assert "float64 evaluation" in tolerance.origin
    assert compare(held.outputs[0], rows @ columns, tolerance).verdict is Verdict.PASS


@pytest.mark.parametrize("name", KERNELS)
def test_at_most_a_quarter_of_the_places_is_held(name):
    function, inputs, like = KERNELS[name]
    call = CallTensors(
        function="main", inputs=tuple(inputs), outputs=(like,), weights=(None,) * len(inputs)
    )
    module = module_of(function, inputs, np.zeros_like(like))
    for axis in copied_axes(module, call, LIMITS).axes:
        assert 16 <= len(axis.places) <= axis.count // 4
        assert {0, axis.count - 1} <= set(axis.places.tolist())


def test_a_result_without_values_has_no_extreme_places():
    """What is large is an input then."""
    x, like = drawn(ROWS, 8), np.empty((ROWS, 0), F)
    function = kernel(lambda v: relax.op.strided_slice(v, [1], [0], [0]), ((ROWS, 8), F))
    module = module_of(function, [x], like)
    call = CallTensors(function="main", inputs=(x,), outputs=(like,), weights=(None,))
    for axis in copied_axes(module, call, LIMITS).axes:
        assert len(axis.places) <= axis.count // 4
