"""Schedules for kernels on CPUs, and the CPU of this machine as a target.

TVM leaves Relax kernels as they are lowered: one thread, and reductions in scalar code.
``schedule_for_cpu`` writes their loops anew, one rule a module: ``_register_tile`` for matrix
products and convolutions, ``_side_by_side`` for reductions of rows and products with a vector,
``_rows`` for chains such as softmax and norms, ``_transpose``, and ``_parallel`` for all others. A
schedule changes which elements are computed at the same time, and never how one is computed: every
element has the same operations in the same order, its sums included.
"""

__all__ = ["native_cpu", "schedule_for_cpu"]
