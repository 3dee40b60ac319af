"""Kernels that may be broken give the same result every time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_kernels import KERNELS, inputs_of

from mutation.guarded import GuardedTensor, untouched
from mutation.kernel import build_kernels, expose_workspace, output_tensors
from mutation.mutants import mutants


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(2.5, np.float16),
        np.zeros((0, 4), np.int64),
        np.array([True, False]),
        np.arange(8).reshape(2, 4).T,
        np.arange(4).astype(ml_dtypes.bfloat16),
    ],
    ids=["matrix", "scalar", "empty", "bool", "transposed", "bfloat16"],
)
def test_a_guarded_tensor_holds_its_values(array):
    """Of any dtype and layout; TVM sees the same."""
    guarded = GuardedTensor(array)
    assert guarded.numpy().dtype == array.dtype
    np.testing.assert_array_equal(guarded.numpy(), array)
    assert tuple(guarded.tensor.shape) == array.shape
    assert str(guarded.tensor.dtype) == array.dtype.name
    np.testing.assert_array_equal(guarded.tensor.numpy(), array)


@settings(max_examples=20)
@given(st.integers(1, 2000))
def test_the_memory_around_a_tensor_is_a_copy_of_it(size):
    """So that what a broken kernel reads there is plausible, and the same in every run."""
    array = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    guarded = GuardedTensor(array)
    before, behind = guarded._before.tobytes(), guarded._behind.tobytes()
    assert before == array.tobytes() == behind


def test_a_changed_tensor_is_noticed_and_put_back():
    """Kernels may not write to their inputs."""
    guarded = GuardedTensor(np.zeros(4, np.float32))
    guarded._bytes[0] = 1
    assert not guarded.is_unchanged
    guarded.reset()
    assert guarded.is_unchanged


def test_untouched_memory_has_both_values_of_bool():
    """A store that is left out must be able to show."""
    assert set(untouched((4,), np.dtype(bool)).tolist()) == {True, False}
    assert abs(untouched((4,), np.dtype("float32"))).max() < 1e-10


def test_exposed_workspace_changes_no_result():
    """The same values, whether a kernel's memory is its own or passed in."""
    function = KERNELS["softmax"]
    exposed, workspace = expose_workspace(function)
    assert len(workspace) >= 2
    assert len(exposed.params) == len(function.params) + len(workspace)
    (x,) = inputs_of(function)
    plain = tvm.tirx.build(function.with_attr("global_symbol", "plain"), target="llvm")["plain"]
    out = tvm.runtime.tensor(np.zeros_like(x))
    plain(tvm.runtime.tensor(x), out)
    (found,) = build_kernels([function])[0]([GuardedTensor(x)], output_tensors([x]))
    np.testing.assert_array_equal(found, out.numpy())


def test_mutants_that_leave_memory_unwritten_give_the_same_result_twice():
    """Also after other kernels ran in between."""
    function = KERNELS["softmax"]
    chosen = [m.function for m in mutants(function) if m.kind.startswith(("dropped", "index"))]
    inputs = [GuardedTensor(array) for array in inputs_of(function)]
    outputs = output_tensors([np.zeros((8, 8), np.float32)])
    kernels = build_kernels(chosen, {"kind": "llvm", "opt-level": 0})
    first = [kernel(inputs, outputs)[0] for kernel in kernels]
    again = [kernel(inputs, outputs)[0] for kernel in reversed(kernels)]
    for one, other in zip(first, reversed(again), strict=True):
        assert one.tobytes() == other.tobytes()
