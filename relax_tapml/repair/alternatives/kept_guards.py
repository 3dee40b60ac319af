"""The same schedule, with the guards that TVM drops."""

from __future__ import annotations

from tvm import tirx

from relax_tapml.repair._scheduled import scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer
from relax_tapml.targets.toolchain.keep_guards import keep_guards


class KeptGuards(Alternative):
    """Keeps the guards of sums across threads; see ``targets.toolchain.keep_guards``."""

    name = "kept-guards"
    layer = Layer.LOWERING
    text = "with the guards of sums across threads, which TVM's LowerCrossThreadReduction drops"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the scheduled kernel with its guards; None if none would be dropped."""
        own = scheduled(kernel.failing, kernel.target)
        guarded = keep_guards(own)
        return None if guarded.same_as(own) else guarded
