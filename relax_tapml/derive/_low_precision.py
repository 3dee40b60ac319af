r"""How accurate the functions are that ``nvcc --use_fast_math`` puts in place of CUDA's own.

TVM gives the option by default. From the CUDA C++ Programming Guide, "Intrinsic Functions", and the
PTX ISA, which says what they are compiled to, for float32 (others are not changed):

=============================  ============================================  ====================
function                       largest error                                 within ``FUNCTIONS``
=============================  ============================================  ====================
``__expf``, ``__exp10f``       2 + floor(|1.16 x|), 2 + floor(|2.97 x|) ULP  yes
``ex2.approx``                 2 ULP                                         yes
``__logf``, ``__log2f``        2**-21.41, 2**-22 in [0.5, 2], else 3, 2 ULP  yes
``__log10f``                   2**-24 in [0.5, 2], else 3 ULP                yes
``__sinf``, ``__cosf``         2**-21.41, 2**-21.19 in [-pi, pi]; beyond,    yes
                               the reduction loses 2**-23 for each unit
``__tanf``                     ``__sinf / __cosf``                           yes
``__powf``                     ``exp2(y log2 x)``, so 2**-22 |y| for x near  for |y| up to 10
                               1, and NaN for a negative x
``__fdividef``                 2 ULP, and 0 for a divisor above 2**126       yes, but for the 0
``sqrt.approx``                1 ULP (2**-23 relative)                       yes
``rsqrt.approx``               2**-22.9 relative                             yes
``tanh.approx``                2**-11 relative                               **no**
=============================  ============================================  ====================

So ``tanh`` alone needs a bound of its own. That a power of a negative number is NaN is no matter of
accuracy: nothing allows it. Denormals are flushed, which all bounds allow.
"""

from __future__ import annotations

from dataclasses import replace

from relax_tapml.derive._functions import COARSE, FUNCTIONS, Function

_TANH_ULPS = 2.0**12  # 2**-11 of the result, in units of 2**-23.

FAST_MATH: dict[str, Function] = {
    "tirx.tanh": replace(FUNCTIONS["tirx.tanh"], ulps=FUNCTIONS["tirx.tanh"].ulps + _TANH_ULPS)
}
"""What CUDA's fast math computes less accurately than ``FUNCTIONS`` says."""

COARSEST: dict[str, Function] = {**COARSE, **FAST_MATH}
"""The errors of coarse bounds, whoever allows them: WGSL and Vulkan, or CUDA's fast math.

A platform says which functions it is lenient about (``Platform.low_precision_math``); no function
is in both lists, and a kernel that has functions of both is rare.
"""
