"""How accurate a device's elementary functions are, and how they carry the error of an argument.

Each number is the largest error that any of these specifications allows: OpenCL C (full profile,
"Relative error as ULPs"), Vulkan and WGSL ("Accuracy of builtins": ``exp`` within ``3 + 2 |x|``
ULP, ``log`` within ``2**-21`` near 1), and the CUDA programming guide for the fast intrinsics to
which TVM lowers (``__expf``, ``__logf``, ``__sinf``). Where one platform alone allows much more, as
WGSL does for trigonometry, its numbers are in ``derive._low_precision``: on other platforms they
would accept wrong answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml._compat import prim, prim_op
from relax_tapml.derive.bounded import magnitude, number

Value = Any


@dataclass(frozen=True, kw_only=True)
class Function:
    """An elementary function of one argument.

    Parameters
    ----------
    call
        Makes the call, in float64.
    ulps
        Relative error of its result, in units in the last place.
    ulps_per_argument
        More of these for each unit of ``|x|``; of 1 where the function is not monotone.
    absolute
        Absolute error, in units in the last place of 1.
    fixed, fixed_narrow
        Absolute error, and that in a dtype narrower than float32.
    low, high
        The domain; None without an end.
    slope
        For functions that are not monotone: the largest slope. None for monotone ones.
    """

    call: Callable[[Value], Value]
    ulps: float
    ulps_per_argument: float = 0.0
    absolute: float = 0.0
    fixed: float = 0.0
    fixed_narrow: float = 0.0
    low: float | None = None
    high: float | None = None
    slope: float | None = None

    def own_error(self, x: Value, y: Value, ulp: float, *, is_narrow: bool = False) -> Value:
        """Return the error of computing ``y = f(x)`` from the exact ``x``.

        Parameters
        ----------
        x, y
            Bound to variables.
        ulp
            Of 1, in the precision it is computed in.
        is_narrow
            Whether the dtype is narrower than float32.
        """
        relative: Value = number(self.ulps * ulp)
        absolute: Value = number(
            self.absolute * ulp + (self.fixed_narrow if is_narrow else self.fixed)
        )
        if self.ulps_per_argument:
            size = prim.Min(magnitude(x), number(_LARGEST_ARGUMENT))
            growing = number(self.ulps_per_argument * ulp) * size
            if self.slope is None:
                relative = relative + growing
            else:
                absolute = absolute + growing
        return relative * magnitude(y) + absolute

    def carried_error(self, x: Value, y: Value, error: Value) -> Value:
        """Return how much the result changes if the argument changes by ``error``."""
        if self.slope is not None:
            return prim.Min(number(self.slope) * error, number(2.0))
        above, below = self.call(self.inside(x + error)), self.call(self.inside(x - error))
        return prim.Max(magnitude(above - y), magnitude(y - below))

    def inside(self, x: Value) -> Value:
        """Return the value of the domain that is nearest to ``x``."""
        if self.low is not None:
            x = prim.Max(x, number(self.low))
        return x if self.high is None else prim.Min(x, number(self.high))


def _exp10(x: Value) -> Value:
    # In float64 this is more accurate than ``tirx.exp10``.
    return tirx.pow(number(10.0), x)


_LN2, _LN10 = 0.6931471805599453, 2.302585092994046
_TINY = 1e-300
_LARGEST_ARGUMENT = 1e6  # So that an infinity times a result of zero is zero.

FUNCTIONS: dict[str, Function] = {
    "tirx.exp": Function(call=tirx.exp, ulps=3, ulps_per_argument=2),
    "tirx.exp2": Function(call=tirx.exp2, ulps=3, ulps_per_argument=2 * _LN2),
    "tirx.exp10": Function(call=_exp10, ulps=3, ulps_per_argument=2 * _LN10),
    "tirx.log": Function(call=tirx.log, ulps=3, absolute=4, low=_TINY),
    prim_op("log2"): Function(call=tirx.log2, ulps=3, absolute=4, low=_TINY),
    "tirx.log10": Function(call=tirx.log10, ulps=3, absolute=4, low=_TINY),
    "tirx.log1p": Function(call=tirx.log1p, ulps=3, absolute=1, low=-1 + 2**-53),
    "tirx.sqrt": Function(call=tirx.sqrt, ulps=3, low=0.0),
    "tirx.rsqrt": Function(call=tirx.rsqrt, ulps=3, low=0.0),
    # TVM's own CPU code computes tanh from an exponential, whose error near 0 is absolute.
    "tirx.tanh": Function(call=tirx.tanh, ulps=5, absolute=2),
    "tirx.sigmoid": Function(call=tirx.sigmoid, ulps=6, ulps_per_argument=2),
    "tirx.erf": Function(call=tirx.erf, ulps=16, absolute=1),
    "tirx.sin": Function(call=tirx.sin, ulps=4, absolute=4, ulps_per_argument=1, slope=1.0),
    "tirx.cos": Function(call=tirx.cos, ulps=4, absolute=4, ulps_per_argument=1, slope=1.0),
    "tirx.atan": Function(call=tirx.atan, ulps=5),
    "tirx.asin": Function(call=tirx.asin, ulps=4, low=-1.0, high=1.0),
    "tirx.acos": Function(call=tirx.acos, ulps=4, absolute=1, low=-1.0, high=1.0),
    "tirx.sinh": Function(call=tirx.sinh, ulps=4, ulps_per_argument=2, absolute=1),
}
"""By the name of the TIR operator."""


STEPS: dict[str, Callable[[Value], Value]] = {
    "tirx.floor": tirx.floor,
    prim_op("ceil"): tirx.ceil,
    "tirx.round": tirx.round,
    "tirx.trunc": tirx.trunc,
    "tirx.nearbyint": tirx.nearbyint,
}
"""Functions that are exact and monotone, but not continuous."""

DIVISION_ULPS = 2.5
POWER_ULPS, POWER_ULPS_PER_LOGARITHM = 16.0, 4.0
