"""Why the results of a device are not trusted."""

from __future__ import annotations

from collections.abc import Iterable

from relax_tapml.printable import names_text

_NAMED_AT_MOST = 5


def suspicion(units: Iterable[str], others: Iterable[str]) -> str:
    """Return a clause about a device that fails some units which other devices pass."""
    named = names_text(list(units), _NAMED_AT_MOST)
    return f"gave wrong answers for {named}, right on {', '.join(others)}"
