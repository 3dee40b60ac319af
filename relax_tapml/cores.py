"""How many processor cores this process may use, and work for all of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

MOST_THREADS = 16
"""Of one piece of work. Each thread holds some memory, and waits for that of the machine."""

_CGROUPS = Path("/sys/fs/cgroup")
_Item = TypeVar("_Item")


def usable_cores() -> int:
    """Return the number of cores of this process's affinity, at most the quota of its container.

    ``os.cpu_count`` counts all cores of the machine.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS
        cores = os.cpu_count() or 1
    return min(cores, _quota(_CGROUPS) or cores)


def threads_at_most() -> int:
    """Return how many threads do one piece of work at most."""
    return min(usable_cores(), MOST_THREADS)


def in_threads(
    work: Callable[[_Item], None], items: Iterable[_Item], most: int = MOST_THREADS
) -> None:
    """Do some work for each item, in a thread for each core; return when all of it is done.

    It pays where the work is done without the lock of Python's interpreter, as NumPy's operations
    on large arrays of its own dtypes are.

    Parameters
    ----------
    work
        Does its own part of the whole, whatever the order. What it raises is raised here.
    items
        What it is done for.
    most
        How many threads there are at most: few where much of the work needs the lock.
    """
    listed = list(items)
    threads = min(threads_at_most(), len(listed), most)
    if threads <= 1:
        for item in listed:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, listed):
            pass


def slices(extent: int, step: int) -> Iterator[slice]:
    """Yield the slices of a range that are ``step`` long, the last perhaps shorter."""
    for start in range(0, extent, step):
        yield slice(start, min(extent, start + step))


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
