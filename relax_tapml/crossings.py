"""What a boundary costs: the device calls of a program and the values that are copied for them.

Plain values, readable without TVM; ``device_calls`` finds them in a module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A value that is copied from one side to the other, or a weight that the device keeps.

    Parameters
    ----------
    name
        Of the variable, or of the weight.
    type
        ``float32[4, n]``.
    size_bytes
        None where the shape is not known before the run.
    """

    name: str
    type: str
    size_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class DeviceCall:
    """One call of a region.

    Parameters
    ----------
    function
        The Relax function it is in.
    region
        The device function it calls, which other calls may share.
    sites
        Ids of the sites that run in it.
    uploads
        Values that are copied to the device for it, without those that an earlier call uploaded.
    downloads
        Its results that are copied back.
    parameters
        Weights that it is the first to use in its function. They are sent once per session.
    """

    function: str
    region: str
    sites: tuple[str, ...]
    uploads: tuple[Crossing, ...]
    downloads: tuple[Crossing, ...]
    parameters: tuple[Crossing, ...]

    @property
    def crossings(self) -> int:
        """How many values are copied."""
        return len(self.uploads) + len(self.downloads)

    @property
    def crossing_bytes(self) -> int | None:
        """Bytes of all copied values; None where a shape is not known before the run."""
        return _sum(crossing.size_bytes for crossing in (*self.uploads, *self.downloads))


def bytes_of(calls: Iterable[DeviceCall]) -> int | None:
    """Return the bytes that are copied for calls; None where only the run knows a shape."""
    return _sum(call.crossing_bytes for call in calls)


def _sum(sizes: Iterable[int | None]) -> int | None:
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return total
