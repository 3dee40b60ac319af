"""Whether there is room on the disk for what a capture will store."""

from __future__ import annotations

import shutil
from pathlib import Path

from relax_tapml.bringup._capture_size import CaptureSize
from relax_tapml.errors import MachineError
from relax_tapml.report.quantities import size_text

_SHARE = 0.8  # Of the room for activations: what a size that is proposed uses.


def require_room(folder: Path, size: CaptureSize) -> None:
    """Check that the file system of a folder, which need not exist, has room for a capture.

    Raises
    ------
    MachineError
        It has less than the capture is expected to store.
    """
    at = folder
    while not at.exists() and at != at.parent:
        at = at.parent
    free_bytes = shutil.disk_usage(at).free
    if free_bytes >= size.total_bytes:
        return
    left_bytes = int(_SHARE * (free_bytes - size.weight_bytes))
    fix = "Name another folder with --out"
    if left_bytes > 0:
        unit, name = (10**6, "MB") if left_bytes >= 10**6 else (10**3, "KB")
        fit = f"{max(left_bytes // unit, 1)}{name}"
        fix = f"Capture fewer calls, as with --capture-calls {fit}, or name another --out"
    raise MachineError(
        f"capturing into {folder} takes about {size_text(size.total_bytes)} "
        f"({size_text(size.weight_bytes)} of weights, {size_text(size.activation_bytes)} of "
        f"activations), and {size_text(free_bytes)} are free there. {fix}"
    )
