"""What CUDA's fast math costs, against the bounds that every device is held to."""

from __future__ import annotations

import numpy as np
import pytest

from relax_tapml.derive._functions import FUNCTIONS, POWER_ULPS, POWER_ULPS_PER_LOGARITHM
from relax_tapml.derive._low_precision import CUDA_FAST_MATH, WGSL_FUNCTIONS

ULP = 2.0**-23
X = np.concatenate([-np.logspace(-6, 1.9, 400), np.logspace(-6, 1.9, 400)])


def allowed(name, y, x):
    """The bound of a table in float64, as ``Function.own_error`` states it."""
    function = FUNCTIONS[f"tirx.{name}"]
    growing = function.ulps_per_argument * ULP * np.abs(x)
    relative = function.ulps * ULP + (growing if function.slope is None else 0.0)
    absolute = function.absolute * ULP + (0.0 if function.slope is None else growing)
    return relative * np.abs(y) + absolute


def test_a_fast_exponential_is_within_the_bound_of_all_devices():
    """2 + floor(|1.16 x|) ULP."""
    y = np.exp(X)
    assert ((2 + np.floor(np.abs(1.16 * X))) * ULP * y <= allowed("exp", y, X)).all()


def test_a_fast_logarithm_is_too():
    """2**-21.41 near 1, else 3 ULP."""
    x = np.logspace(-30, 30, 1001)
    y = np.log(x)
    error = np.where((x >= 0.5) & (x <= 2), 2.0**-21.41, 3 * ULP * np.abs(y))
    assert (error <= allowed("log", y, x)).all()


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_so_are_fast_sines(name):
    """2**-21.19 in [-pi, pi]; beyond, what the reduction of the argument loses in float32."""
    y = getattr(np, name)(X)
    error = np.where(np.abs(X) <= np.pi, 2.0**-21.19, 2.0**-21.19 + ULP * np.abs(X))
    assert (error <= allowed(name, y, X)).all()


def test_so_are_powers_of_small_exponents():
    """exp2 of y times a logarithm that is off by 2**-22 near 1, else by 2 ULP."""
    for y in (-0.5, 0.5, 2.0, 3.0, 10.0):
        x = np.logspace(-3, 3, 501)
        logarithm = np.log2(x)
        lost = np.where((x >= 0.5) & (x <= 2), 2.0**-22, 2 * ULP * np.abs(logarithm))
        exponent = np.abs(y) * lost + ULP / 2 * np.abs(y * logarithm)
        relative = np.log(2) * exponent + 2 * ULP
        fine = (POWER_ULPS + POWER_ULPS_PER_LOGARITHM * np.abs(y * logarithm)) * ULP
        assert (relative <= fine).all()


def test_a_fast_tanh_is_not():
    """2**-11: it has a bound of its own, and nothing else is changed by it."""
    y = np.tanh(X)
    assert (2.0**-11 * np.abs(y) > allowed("tanh", y, X))[np.abs(X) > 0.01].all()
    assert CUDA_FAST_MATH["tirx.tanh"].ulps * ULP >= 2.0**-11
    assert set(CUDA_FAST_MATH) == {"tirx.tanh"}
    assert CUDA_FAST_MATH.keys().isdisjoint(WGSL_FUNCTIONS)
