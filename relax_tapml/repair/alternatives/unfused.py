"""The parts of a kernel one after another."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml.errors import LoweringError
from relax_tapml.repair._blocks import allocated, nests_of, root_of, with_root
from relax_tapml.repair._scheduled import as_scheduled, scheduled, serially_scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer


class Unfused(Alternative):
    """Schedules each loop nest as if it were a kernel of its own; results between are in memory."""

    name = "unfused"
    layer = Layer.SCHEDULE
    text = "with its parts apart"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so; None if it is one loop nest."""
        plain = kernel.plain
        nests = nests_of(plain)
        if len(nests) < 2:
            return None
        between = list(root_of(plain).alloc_buffers)
        scalars = [p for p in plain.params if not tirx.is_buffer_var(p)]
        tensors = [p for p in plain.params if tirx.is_buffer_var(p)]
        apart: list[Any] = []
        buffers = list(between)
        for nest in nests:
            used: list[Any] = []
            tvm_ffi.structural_walk(nest, (tirx.Var, used.append))
            given = [b for b in (*tensors, *between) if any(b.same_as(one) for one in used)]
            part = _scheduled(with_root(plain, [nest], [], [*given, *scalars]), kernel.target)
            if [*part.params] != [*given, *scalars]:
                raise ValueError("the schedule of a part has other parameters than the part")
            apart += nests_of(part)
            buffers += list(root_of(part).alloc_buffers)
        made = with_root(plain, apart, buffers)
        _check_once(allocated(made))
        return as_scheduled(made)


def _scheduled(part: tirx.PrimFunc, target: Any) -> tirx.PrimFunc:
    try:
        return scheduled(part, target)
    except LoweringError:  # Of a rule that expects more than one loop nest.
        made = serially_scheduled(part, target)
        if made is None:
            raise
        return made


def _check_once(buffers: list[Any]) -> None:
    if len(set(buffers)) != len(buffers):
        raise ValueError("two parts share a buffer that one of them allocates")
