"""The accuracy and the error propagation of each elementary function."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import tirx

from relax_tapml.derive._functions import FUNCTIONS, STEPS

NUMPY = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sqrt": np.sqrt, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "atan": np.arctan, "asin": np.arcsin, "acos": np.arccos, "sinh": np.sinh,
    "rsqrt": lambda x: 1 / np.sqrt(x), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}  # fmt: skip
N = 64


def evaluated(build, *arrays):
    """Evaluate float64 expressions of float64 values."""
    inputs = [tirx.decl_buffer((N,), "float64", f"x{i}") for i in range(len(arrays))]
    out = tirx.decl_buffer((N,), "float64", "y")
    i = tirx.Var("i", "int32")
    value = build(*[tirx.BufferLoad(buffer, [i]) for buffer in inputs])
    body = tirx.For(i, 0, N, tirx.ForKind.SERIAL, tirx.BufferStore(out, value, [i]))
    function = tirx.PrimFunc([*inputs, out], body).with_attr("global_symbol", "f")
    built = tvm.tirx.build(tvm.IRModule({"f": function}), target="llvm")
    result = tvm.runtime.tensor(np.zeros(N))
    built["f"](*[tvm.runtime.tensor(array) for array in arrays], result)
    return result.numpy()


def points(name, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(N) * rng.choice([0.01, 1.0, 8.0], N)
    function = FUNCTIONS[name]
    low = -np.inf if function.low is None else function.low
    high = np.inf if function.high is None else function.high
    if low >= 0:
        x = np.abs(x) + 1e-3
    return np.clip(x, low + 1e-6, high - 1e-6).astype(np.float32).astype(np.float64)


def short(name):
    return name.split(".")[1]


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if short(n) in NUMPY])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_float32_library_is_inside(name, seed):
    """NumPy's float32 functions are at least as accurate as a device must be."""
    function = FUNCTIONS[name]
    x = points(name, seed)
    exact = NUMPY[short(name)](x)
    with np.errstate(all="ignore"):
        found = NUMPY[short(name)](x.astype(np.float32)).astype(np.float64)
    allowed = evaluated(lambda x, y: function.own_error(x, y, 2.0**-23), x, exact)
    assert (np.abs(found - exact) <= allowed + 1e-37).all()


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if short(n) in NUMPY])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-7, 1e-3, 0.1]))
def test_a_perturbed_argument_changes_the_result_by_the_carried_error_at_most(name, seed, size):
    """For any move within the error, in either direction."""
    function = FUNCTIONS[name]
    x = points(name, seed)
    y = evaluated(lambda x: function.call(x), x)
    error = np.full(N, size)
    carried = evaluated(lambda x, y, e: function.carried_error(x, y, e), x, y, error)
    for share in (-1.0, -0.3, 0.5, 1.0):
        moved = evaluated(lambda x: function.call(function.inside(x)), x + share * error)
        assert (np.abs(moved - y) <= carried * (1 + 1e-9) + 1e-15).all()


def test_an_infinite_argument_has_a_finite_error():
    """exp(-inf) is 0, and so is its error."""
    x, y = np.full(N, -np.inf), np.zeros(N)
    function = FUNCTIONS["tirx.exp"]
    assert not evaluated(lambda x, y: function.own_error(x, y, 2.0**-23), x, y).any()


@pytest.mark.parametrize("name", [n for n in {**FUNCTIONS, **STEPS} if n != "tirx.exp10"])
def test_functions_and_steps_are_calls_of_the_operator_they_stand_for(name):
    """So that none is mistaken for another."""
    call = STEPS[name] if name in STEPS else FUNCTIONS[name].call
    assert call(tirx.Var("x", "float64")).op.name == name
