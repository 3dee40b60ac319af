"""The float64 evaluations of one unit, any of which may crash its process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Evaluations:
    """Counts the evaluations of a unit, so that one that crashed is left out the next time.

    A kernel that reads at places that its inputs decide may read anywhere when it is evaluated on
    other inputs, or on the same ones in float64. Carving a unit does the same evaluations in the
    same order each time, so a number names one.

    Parameters
    ----------
    note
        Gets the number of each evaluation before it begins.
    refused
        Numbers of those that are not to be done, with the reason.
    """

    note: Callable[[str], None] = lambda _number: None
    refused: Mapping[int, str] = field(default_factory=dict)
    _count: int = 0

    def begin(self) -> str:
        """Begin the next evaluation; return why it must not be done, empty if it may."""
        self._count += 1
        if self._count not in self.refused:
            self.note(str(self._count))
        return self.refused.get(self._count, "")
