"""A PrimFunc without blocks: loops and stores."""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx

_ENTRY = "plain"
_PASSES = tvm.transform.Sequential(
    [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.LowerOpaqueBlock(),
    ]
)


def plain_kernel(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a PrimFunc as loops and stores, with the same parameters.

    Raises
    ------
    Exception
        Whatever TVM raises about a PrimFunc that it cannot lower.
    """
    named = function.with_attr("global_symbol", _ENTRY)
    return _PASSES(tvm.IRModule({_ENTRY: named}))[_ENTRY]
