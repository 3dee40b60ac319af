"""Where in a tensor values are wrong, as it is stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from relax_tapml.compare.error_map import ErrorMap
from relax_tapml.results.json_codec import Count


@dataclass(frozen=True, kw_only=True)
class ErrorMapResult:
    """What is stored of an ``ErrorMap``: wrong values by place, judged values by size of error.

    Parameters
    ----------
    shape, axes, bin_sizes, wrong, ratios, exact, nonfinite
        As there; of some thousand numbers at most.
    """

    shape: tuple[Count, ...]
    axes: tuple[Count, ...]
    bin_sizes: tuple[Count, ...]
    wrong: tuple[tuple[Count, ...], ...]
    ratios: tuple[Count, ...]
    exact: Count = 0
    nonfinite: Count = 0

    @classmethod
    def of(cls, found: ErrorMap | None) -> ErrorMapResult | None:
        """Return what is stored of a map; None without one."""
        return None if found is None else cls(**asdict(found))
