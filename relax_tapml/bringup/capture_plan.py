"""Which calls of a model are captured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from relax_tapml.errors import UsageError

_UNITS = {
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}
_TEXT = re.compile(
    r"(all|(?P<calls>\d+)|(?P<size>\d+(\.\d+)?)\s*(?P<unit>[KMGT]i?B))(/(?P<every>\d+))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class CapturePlan:
    """Which calls of a model are captured.

    Parameters
    ----------
    most_calls
        At most so many calls of each unit in one run of a function, from its first site to its
        last; None for all.
    most_bytes
        As many calls of each unit as are expected to fit, at least one; None for any size. It does
        not count weights, each of which is stored once.
    every
        The first of so many runs of each function, for samples that call functions again and again.
    """

    most_calls: int | None = None
    most_bytes: int | None = None
    every: int = 1

    def __post_init__(self) -> None:
        limits = (self.most_calls, self.most_bytes)
        if None not in limits or any(limit is not None and limit < 1 for limit in limits):
            raise ValueError(f"{self}: expected one limit, of at least 1")
        if self.every < 1:
            raise ValueError(f"every: expected at least 1, got {self.every}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``all``, a number or a size such as ``2GB``, each with or without ``/K``.

        Raises
        ------
        UsageError
            ``text`` is none of these.
        """
        match = _TEXT.fullmatch(text.strip())
        calls = int(match["calls"]) if match and match["calls"] else None
        size = None
        if match and match["size"]:
            size = round(float(match["size"]) * _UNITS[match["unit"].upper()])
        every = int(match["every"] or 1) if match else 0
        if every < 1 or calls == 0 or size == 0:
            raise UsageError(
                f"--capture-calls {text}: expected all, a number of calls of each unit, or a size "
                "such as 2GB; each may end with /K, for every K-th run of a function"
            )
        return cls(most_calls=calls, most_bytes=size, every=every)

    @property
    def text(self) -> str:
        """What ``parse`` reads as this."""
        limit = "all" if self.most_calls is None else str(self.most_calls)
        if self.most_bytes is not None:
            limit = _size_text(self.most_bytes)
        return limit if self.every == 1 else f"{limit}/{self.every}"


ALL = CapturePlan()


def _size_text(size_bytes: int) -> str:
    fitting = (name for name in ("TB", "GB", "MB") if size_bytes >= _UNITS[name])
    unit = next(fitting, "KB")
    return f"{size_bytes / _UNITS[unit]:.12g}{unit}"
