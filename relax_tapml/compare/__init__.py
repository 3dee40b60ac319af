"""One result against its oracle: the verdict, how far apart they are, and how sharp the test was.

An oracle, a result and one of the ``tolerances`` flow in; a ``comparison.Comparison`` flows out,
with its ``verdict``, its ``metrics`` and its ``power``: which errors the tolerance can detect. A
mismatch is a value here, never an exception. ``framework_tolerance``, ``choice_comparison`` and
``agreement`` compare the outputs of whole models; ``error_map`` counts where mismatches are;
``magnitudes`` are means over large ones.
"""

__all__ = [
    "agreement",
    "choice_comparison",
    "comparison",
    "error_map",
    "framework_tolerance",
    "magnitudes",
    "metrics",
    "power",
    "repeat",
    "tolerances",
    "verdict",
]
