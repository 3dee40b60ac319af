"""One thread for each value, in small blocks; nothing shared, nothing inlined, no vectors."""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx

from relax_tapml.repair._scheduled import as_scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

_THREADS = 32


class OneThreadEach(Alternative):
    """A naive schedule: every loop nest is a kernel of its own, and sums are serial."""

    name = "one-thread-each"
    layer = Layer.SCHEDULE
    text = "with one thread for each value"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None on CPUs, and where its blocks are not plain loops."""
        if "gpu" not in kernel.target.keys:
            return None
        schedule = s_tir.Schedule(kernel.lowered)
        for block in schedule.get_child_blocks(schedule.get_sblock("root")):
            if not _bind(schedule, block):
                return None
        return as_scheduled(schedule.mod["main"])


def _bind(schedule: s_tir.Schedule, block: Any) -> bool:
    loops = schedule.get_loops(block)
    axes = schedule.get(block).iter_vars
    if len(axes) != len(loops):
        return False
    kinds = [axis.iter_type for axis in axes]
    if any(kind not in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce) for kind in kinds):
        return False
    spatial = [
        loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.DataPar
    ]
    sums = [loop for loop in loops if loop not in spatial]
    if not spatial:
        spatial = [schedule.add_unit_loop(block)]
    schedule.reorder(*spatial, *sums)
    outer, inner = schedule.split(schedule.fuse(*spatial), factors=[None, _THREADS])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    if sums:
        schedule.decompose_reduction(block, sums[0])
    return True
