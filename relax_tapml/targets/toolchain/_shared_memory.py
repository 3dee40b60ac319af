"""How much shared memory a compiled GPU kernel needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm_ffi import structural_walk

from relax_tapml._compat import SBlock
from relax_tapml.errors import LoweringError

_AT_LAUNCH = "shared.dyn"


@dataclass(frozen=True, kw_only=True)
class SharedMemory:
    """Shared memory of one launch, in bytes for each block.

    Parameters
    ----------
    declared
        In the kernel itself.
    at_launch
        Requested at the launch.
    """

    declared: int = 0
    at_launch: int = 0


def has_shared_memory(function: Any) -> bool:
    """Whether a scheduled PrimFunc allocates any."""
    return bool(_allocated(function.body))


def shared_memory(name: str, function: Any, target: Any) -> dict[str, SharedMemory]:
    """Return what each launch of a scheduled PrimFunc needs, by the name of the launched kernel.

    The PrimFunc is lowered as for compiling it, which shrinks buffers to their use and lets buffers
    share memory that are not alive at the same time.

    Raises
    ------
    LoweringError
        It allocates such memory outside of its threads.
    """
    host = target.host or tvm.target.Target("llvm")
    bind = tirx.transform.BindTarget(target.with_host(host))
    pipeline, _, _ = tirx.get_default_tir_pipeline(target)
    lowered = pipeline(bind(tvm.IRModule({name: function.with_attr("global_symbol", name)})))
    found = {}
    for gvar, part in lowered.functions_items():
        buffers = _allocated(part.body)
        if buffers and part.attrs["target"].kind.name != target.kind.name:
            raise LoweringError(
                f"kernel {name} allocates shared memory outside of its threads. Allocate it inside "
                "of the loops that are bound to them"
            )
        if buffers:
            at_launch = sum(_bytes(b) for b in buffers if b.scope() == _AT_LAUNCH)
            declared = sum(map(_bytes, buffers)) - at_launch
            found[gvar.name_hint] = SharedMemory(declared=declared, at_launch=at_launch)
    return found


def _allocated(body: Any) -> list[Any]:
    buffers: list[Any] = []
    structural_walk(
        body,
        [
            (tirx.AllocBuffer, lambda node: buffers.append(node.buffer)),
            (SBlock, lambda node: buffers.extend(node.alloc_buffers)),
        ],
        order="pre",
    )
    return [buffer for buffer in buffers if buffer.scope().startswith("shared")]


def _bytes(buffer: Any) -> int:
    """Return the size of a buffer; 0 if the extents are not constant."""
    if not all(isinstance(extent, tirx.IntImm) for extent in buffer.shape):
        return 0
    dtype = tvm_ffi.dtype(str(buffer.dtype))
    count = math.prod(int(extent.value) for extent in buffer.shape)
    return -(-count * int(dtype.bits) * int(dtype.lanes) // 8)
