"""Device pipelines that make one kernel store out of bounds, to see what a GPU makes of it.

``UNIT_wild`` moves what the unit's kernel stores far away, ``UNIT_behind`` by one row. With this
folder on ``PYTHONPATH``:

``python -m relax_tapml.build minilm --text "..." --target cuda --device-pipeline PIPELINE``

where ``PIPELINE`` is ``gpu_faults:fused_softmax_broadcast_to5_wild``, for instance.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

ROWS = {"wild": 1 << 40, "behind": 1}


def __getattr__(name: str) -> tvm.transform.Pass:
    unit, _, fault = name.rpartition("_")
    if not unit or fault not in ROWS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return stores_behind(unit, ROWS[fault])


def stores_behind(unit: str, rows: int) -> tvm.transform.Pass:
    """Return a pass that moves all that ``unit`` stores in its arguments by ``rows`` rows."""

    @tvm.transform.module_pass(opt_level=0, name="StoresBehind")
    def change(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        out = module.clone()
        gvar = module.get_global_var(unit)
        out.update_func(gvar, _moved(module[gvar], rows))
        return out

    return change


def _moved(kernel: Any, rows: int) -> Any:
    arguments = {parameter.name for parameter in kernel.params}

    def move(store: Any) -> Any:
        if store.buffer.name not in arguments:
            return store
        first, *rest = store.indices
        far = tirx.Cast("int64", first) + tirx.const(rows, "int64")
        return tirx.BufferStore(store.buffer, store.value, [far, *rest])

    return tvm_ffi.structural_map(kernel, (tirx.BufferStore, move))
