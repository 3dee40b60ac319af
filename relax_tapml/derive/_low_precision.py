r"""How accurate elementary functions are on devices that are allowed less than ``FUNCTIONS``.

Two platforms allow less, and each says for which functions (``Platform.low_precision_math``). No
function is in both tables, and a kernel that calls functions of both is rare, so one table of all
of them serves every platform.

**WGSL and Vulkan** ("Accuracy of builtins") allow much more for trigonometry: ``2**-11`` for
``sin`` and ``cos``, and 4096 ULP for the arcs. Software adapters make use of it. Elsewhere these
bounds would accept wrong answers.

**CUDA's fast math**: TVM passes ``--use_fast_math`` to nvcc by default, which then replaces CUDA's
functions. From the CUDA C++ Programming Guide, "Intrinsic Functions", and the PTX ISA, which
describes the instructions, for float32 (other dtypes are not changed):

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

So ``tanh`` alone needs a bound of its own. A NaN for a power of a negative number is not a question
of accuracy, and no bound allows it. Denormals are flushed, which all bounds allow.
"""

from __future__ import annotations

from dataclasses import replace

from relax_tapml.derive._functions import FUNCTIONS, Function

_ARC_ULPS = 4096
_TANH_ULPS = 2.0**12  # 2**-11 of the result, in units of 2**-23.

WGSL_FUNCTIONS: dict[str, Function] = {
    **{
        name: replace(FUNCTIONS[name], fixed=2.0**-11, fixed_narrow=2.0**-7)
        for name in ("tirx.sin", "tirx.cos")
    },
    "tirx.atan": replace(FUNCTIONS["tirx.atan"], ulps=_ARC_ULPS),
    **{
        name: replace(FUNCTIONS[name], ulps=_ARC_ULPS, fixed=6.81e-5, fixed_narrow=3.91e-3)
        for name in ("tirx.asin", "tirx.acos")
    },
}
"""What WGSL and Vulkan allow to be less accurate than ``FUNCTIONS``."""

CUDA_FAST_MATH: dict[str, Function] = {
    "tirx.tanh": replace(FUNCTIONS["tirx.tanh"], ulps=FUNCTIONS["tirx.tanh"].ulps + _TANH_ULPS)
}
"""What CUDA's fast math computes less accurately than ``FUNCTIONS``."""

LOW_PRECISION_FUNCTIONS: dict[str, Function] = {**FUNCTIONS, **WGSL_FUNCTIONS, **CUDA_FAST_MATH}
"""All functions, each as inaccurate as any platform allows."""
