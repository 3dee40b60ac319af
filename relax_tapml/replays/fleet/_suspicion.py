"""Why the results of a device are not trusted."""

from __future__ import annotations

from collections.abc import Iterable

_NAMED_AT_MOST = 5


def suspicion(units: Iterable[str], others: Iterable[str]) -> str:
    """Return a clause about a device that fails some units which other devices pass."""
    names = list(units)
    more = "" if len(names) <= _NAMED_AT_MOST else f" and {len(names) - _NAMED_AT_MOST} more"
    named = ", ".join(names[:_NAMED_AT_MOST]) + more
    return f"gave wrong answers for {named}, right on {', '.join(others)}"
