"""Keep the guard of a sum across threads, which TVM drops where it is a single comparison.

Upstream: reported in ``docs/upstream/guard_of_sums_across_threads.md``; TVM 0.26 and 0.27,
``src/s_tir/transform/lower_cross_thread_reduction.cc``: ``LowerCrossThreadReduction`` puts the
guard of the write-back together from the operands of each ``And`` in the guard of the sum, so one
without any ``And`` is lost.
Symptom: the threads of a GPU that have no row write behind the end of the output.

Delete this file when TVM keeps it.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm_ffi import structural_map

from relax_tapml._compat import SBlockRealize


def keep_guards(function: Any) -> Any:
    """Return a scheduled PrimFunc whose sums keep their guards; the same if it has no such sum.

    A guard ``c`` of a block that reduces becomes ``c and c``, which TVM does not lose.
    """

    def kept(realize: SBlockRealize) -> SBlockRealize:
        guard = realize.predicate
        is_lone = not isinstance(guard, tirx.And | tirx.IntImm)
        sums = any(axis.iter_type == tirx.IterVar.CommReduce for axis in realize.block.iter_vars)
        if not (is_lone and sums):
            return realize
        return SBlockRealize(realize.iter_values, tirx.And(guard, guard), realize.block)

    return structural_map(function, (SBlockRealize, kept))
