"""Alternative kernels compute what the kernel that they are made of is defined to compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx

from relax_tapml.partition.kernel_library import ACCURATE
from relax_tapml.repair.alternative import Kernel, Layer
from relax_tapml.repair.alternatives.registry import ALTERNATIVES

LLVM = tvm.target.Target("llvm")
OPENCL = tvm.target.Target("opencl")
FAST_LLVM = tvm.target.Target({"kind": "llvm", "fast-math": True})
CUDA = tvm.target.Target({"kind": "cuda", "arch": "sm_90"})
BY_NAME = {one.name: one for one in ALTERNATIVES}


def elementwise(function, rows=5, columns=33):
    x = te.placeholder((rows, columns), name="x")
    return te.create_prim_func([x, te.compute((rows, columns), lambda i, j: function(x[i, j]))])


def row_sums(rows=5, columns=100):
    x = te.placeholder((rows, columns), name="x")
    k = te.reduce_axis((0, columns), name="k")
    return te.create_prim_func([x, te.compute((rows,), lambda i: te.sum(x[i, k], axis=k))])


def kernel(lowered, target=LLVM, failing=None):
    return Kernel(failing=failing or lowered, lowered=lowered, target=target)


def const(value):
    return tirx.const(value, "float32")


def computed(function, x, shape):
    built = tvm.compile(tvm.IRModule({"main": function}), target=LLVM)
    out = tvm.runtime.empty(shape, "float32")
    built["main"](tvm.runtime.tensor(x), out)
    return out.numpy()


X = np.random.default_rng(0).standard_normal((5, 33)).astype("float32") * 4


@pytest.mark.parametrize(
    ("name", "function", "expected"),
    [
        ("power-as-product", lambda v: tirx.pow(v, const(3.0)), X.astype("float64") ** 3),
        (
            "power-as-root",
            lambda v: tirx.pow(v, const(0.5)),
            np.where(X < 0, np.nan, np.sqrt(np.abs(X.astype("float64")))),
        ),
        ("tanh-by-exp", tirx.tanh, np.tanh(X.astype("float64"))),
        (
            "finite-constants",
            lambda v: tirx.max(v, const(-math.inf)) + tirx.min(v, const(math.inf)),
            X * 2.0,
        ),
    ],
)
def test_functions_written_otherwise_compute_the_same(name, function, expected):
    lowered = elementwise(function)
    made = BY_NAME[name].make(kernel(lowered))
    assert not tvm_ffi.structural_equal(made, lowered)
    np.testing.assert_allclose(computed(made, X, (5, 33)), expected, rtol=2e-6, atol=2e-6)
    assert "inf" not in made.script()


@pytest.mark.parametrize("function", [lambda v: tirx.pow(v, v), lambda v: tirx.pow(v, const(0.5))])
def test_a_power_that_is_no_product_stays(function):
    assert BY_NAME["power-as-product"].make(kernel(elementwise(function))) is None


@pytest.mark.parametrize("x", [-500.0, 500.0, 0.0])
def test_tanh_by_exp_has_no_infinity_inside(x):
    made = BY_NAME["tanh-by-exp"].make(kernel(elementwise(tirx.tanh)))
    found = computed(made, np.full((5, 33), x, "float32"), (5, 33))
    np.testing.assert_allclose(found, np.tanh(x), atol=1e-7)


@pytest.mark.parametrize("lowered", [elementwise(tirx.exp), row_sums()], ids=["map", "sum"])
def test_schedules_for_gpus_bind_threads_and_are_kept(lowered):
    """Each that applies is marked as scheduled, so that no default schedule follows."""
    made = {
        one.name: found
        for one in ALTERNATIVES
        if one.layer is Layer.SCHEDULE and (found := one.make(kernel(lowered, OPENCL))) is not None
    }
    assert {"dlight-fallback", "one-thread-each"} <= made.keys()
    for found in made.values():
        assert found.attrs["tirx.is_scheduled"]
        assert "threadIdx.x" in found.script()


def test_one_thread_for_each_value_adds_up_serially():
    script = BY_NAME["one-thread-each"].make(kernel(row_sums(), OPENCL)).script()
    assert script.count('thread="threadIdx.x"') == 1
    assert 'thread_binding(32, thread="threadIdx.x")' in script
    assert "decl_buffer" not in script


def test_a_cpu_has_its_loops_as_they_are_written():
    lowered = row_sums()
    made = BY_NAME["unscheduled"].make(kernel(lowered))
    assert made.attrs["tirx.is_scheduled"]
    assert BY_NAME["one-thread-each"].make(kernel(lowered)) is None
    assert BY_NAME["unscheduled"].make(kernel(lowered, OPENCL)) is None


def test_what_a_pipeline_did_is_left_out():
    lowered, other = elementwise(tirx.exp), elementwise(tirx.tanh)
    alternative = BY_NAME["as-lowered"]
    assert alternative.make(kernel(lowered, failing=other)).same_as(lowered)
    assert alternative.make(kernel(lowered)) is None


@pytest.mark.parametrize(
    ("target", "applies"), [(CUDA, True), (FAST_LLVM, True), (LLVM, False), (OPENCL, False)]
)
def test_accurate_options_are_those_of_a_trusted_source(target, applies):
    """They are no other IR: a mark of the kernel says how it is compiled."""
    lowered = elementwise(tirx.exp)
    made = BY_NAME["accurate-options"].make(kernel(lowered, target))
    assert (made is not None) == applies
    if applies:
        assert made.attrs[ACCURATE]
        assert tvm_ffi.structural_equal(made.without_attr(ACCURATE), lowered)


def test_guards_are_kept_where_tvm_drops_them():
    """Five rows do not fill the threads of a sum across threads."""
    made = BY_NAME["kept-guards"].make(kernel(row_sums(), OPENCL))
    assert made is None or made.attrs["tirx.is_scheduled"]
    assert BY_NAME["kept-guards"].make(kernel(elementwise(tirx.exp), OPENCL)) is None
