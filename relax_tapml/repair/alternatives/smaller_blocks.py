"""dlight's schedule for a GPU that allows few threads in a block."""

from __future__ import annotations

from tvm import IRModule, tirx
from tvm.s_tir import dlight

from relax_tapml.errors import LoweringError
from relax_tapml.repair._scheduled import limited, scheduled_by
from relax_tapml.repair.alternative import Alternative, Kernel, Layer
from relax_tapml.targets.toolchain.gpu_limits import check_limits

_THREADS = 32


class SmallerBlocks(Alternative):
    """The first rule that keeps to 32 threads in a block; some have fixed numbers of more."""

    name = "smaller-blocks"
    layer = Layer.SCHEDULE
    text = f"with at most {_THREADS} threads in a block"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None on CPUs."""
        if not kernel.is_for_gpu:
            return None
        few = limited(kernel.target, max_num_threads=_THREADS, max_threads_per_block=_THREADS)
        for rule in (dlight.gpu.GEMV(), dlight.gpu.Reduction(), dlight.gpu.Fallback()):
            made = scheduled_by(kernel.lowered, few, [rule])
            if made is not None and _fits(made, few):
                return made
        return None


def _fits(made: tirx.PrimFunc, target: object) -> bool:
    try:
        check_limits(IRModule({"main": made}), target)
    except LoweringError:
        return False
    return True
