"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the number of cores of this process's affinity, at most the quota of its container.

    ``os.cpu_count`` counts all cores of the machine.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    return min(cores, _quota(_CGROUPS) or cores)


def _quota(cgroups: Path) -> int | None:
    """Return the quota of a container in cores, rounded up; None if there is none."""
    # Of the two versions of cgroups; a quota of "max" or -1 is none.
    with suppress(OSError, ValueError):
        quota, period = (cgroups / "cpu.max").read_text().split()
        return math.ceil(int(quota) / int(period))
    with suppress(OSError, ValueError):
        quota, period = (
            (cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
        )
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 else None
    return None
