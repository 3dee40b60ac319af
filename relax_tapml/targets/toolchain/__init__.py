"""What schedules, checks and compiles kernels, and what must be installed for it.

In come PrimFuncs and a target; out go scheduled PrimFuncs, or a ``LoweringError`` for what the
target cannot run. ``default_schedule`` schedules them, with ``keep_guards`` where the target is a
``trusted_target``; ``gpu_limits`` refuses kernels that no driver would launch, ``cuda_compiler``
and ``rocm_compiler`` set up external compilers, ``requirement`` describes what a platform needs,
``low_precision_math`` its less accurate functions, and ``source_kernel`` compiles kernels that are
source text, ``linked_kernel`` those of a shared library.
"""

__all__ = [
    "cuda_compiler",
    "default_schedule",
    "gpu_limits",
    "keep_guards",
    "linked_kernel",
    "low_precision_math",
    "requirement",
    "rocm_compiler",
    "source_kernel",
    "trusted_target",
]
