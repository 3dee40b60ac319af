"""Device pipelines that make one kernel store out of bounds, to see what a GPU makes of it.

``UNIT_wild`` moves what the unit's kernel stores far away, ``UNIT_behind`` by one row. With this
folder on ``PYTHONPATH``:

``python -m relax_tapml.build minilm --text "..." --target cuda --device-pipeline PIPELINE``

where ``PIPELINE`` is ``gpu_faults:fused_softmax_broadcast_to5_wild``, for instance.
"""

from __future__ import annotations

import tvm
from kernel_faults import breaks, rows_behind

ROWS = {"wild": 1 << 40, "behind": 1}


def __getattr__(name: str) -> tvm.transform.Pass:
    unit, _, fault = name.rpartition("_")
    if not unit or fault not in ROWS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return breaks(unit, rows_behind(ROWS[fault]))
