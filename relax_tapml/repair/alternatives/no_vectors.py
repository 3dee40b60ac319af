"""The same schedule without vectors."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml.repair._scheduled import as_scheduled, scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

_VECTORS = "pragma_vectorize"


class NoVectors(Alternative):
    """Loads, calculates and stores element by element."""

    name = "no-vectors"
    layer = Layer.SCHEDULE
    text = "without vectors"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the scheduled kernel with loops for its vectors; None if it has no vectors."""
        own = scheduled(kernel.failing, kernel.target)

        def loop(node: Any) -> Any:
            is_vector = node.kind == tirx.ForKind.VECTORIZED
            if not is_vector and _VECTORS not in node.annotations:
                return node
            kind = tirx.ForKind.SERIAL if is_vector else node.kind
            kept = {key: value for key, value in node.annotations.items() if key != _VECTORS}
            return tirx.For(
                node.loop_var,
                node.min,
                node.extent,
                kind,
                node.body,
                thread_binding=node.thread_binding,
                annotations=kept,
            )

        made = tvm_ffi.structural_map(own, (tirx.For, loop))
        return None if made.same_as(own) else as_scheduled(made)
