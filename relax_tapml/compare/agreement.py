"""Whether a model gives the same answers: next token, class, direction of an embedding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array, as_float64
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.frontend.model import Meaning

_TOP = 5


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often a model gives the source's answer.

    Parameters
    ----------
    meaning
        Of the outputs.
    total
        Rows that were compared: positions, samples.
    same
        Rows with the same first choice; for embeddings, rows that have a direction.
    ties
        Other rows in which the source's first choice leads by less than the two logits may be off,
        so that either choice is right.
    best
        Rows with the same five best choices, in any order. Only for classes.
    cosine
        The lowest cosine of all rows; NaN where a row has no direction. Only for embeddings.
    """

    meaning: Meaning
    total: int
    same: int
    ties: int = 0
    best: int | None = None
    cosine: float | None = None

    @property
    def diverged(self) -> int:
        """Rows with another first choice that is not a tie."""
        return self.total - self.same - self.ties

    def document(self) -> dict[str, object]:
        """Return it as it stands in ``result.json``."""
        has_cosine = self.cosine is not None and math.isfinite(self.cosine)
        return {
            "meaning": str(self.meaning),
            "total": self.total,
            "same": self.same,
            "ties": self.ties,
            "diverged": self.diverged,
            "best": self.best,
            "cosine": self.cosine if has_cosine else None,
        }


def agreement(meaning: Meaning, oracle: Array, actual: Array, tolerance: Tolerance) -> Agreement:
    """Compare one output of a model with the source's, row by row of its last axis.

    Parameters
    ----------
    meaning
        Of the output.
    oracle, actual
        Of the source and of the device, of one shape, with a last axis.
    tolerance
        How far each value may be.
    """
    if oracle.shape != actual.shape or oracle.ndim == 0:
        return Agreement(meaning=meaning, total=1, same=0)
    if oracle.size == 0:
        return Agreement(meaning=meaning, total=0, same=0)
    size = oracle.shape[-1]
    expected = as_float64(oracle).reshape(-1, size)
    got = as_float64(actual).reshape(-1, size)
    if meaning is Meaning.EMBEDDING:
        cosines = _cosines(expected, got)
        count = int(np.isfinite(cosines).sum())
        lowest = float(cosines.min()) if count == len(cosines) and count else math.nan
        return Agreement(meaning=meaning, total=len(expected), same=count, cosine=lowest)
    rows = np.arange(len(expected))
    # A NaN is never the first choice.
    first, chosen = (np.where(np.isnan(a), -np.inf, a).argmax(axis=1) for a in (expected, got))
    is_valid = ~np.isnan(got).any(axis=1)
    is_same = (first == chosen) & is_valid
    allowed = np.asarray(tolerance.allowed(oracle)).reshape(-1, size)
    margin = expected[rows, first] - expected[rows, chosen]
    is_tie = is_valid & ~is_same & (margin <= allowed[rows, first] + allowed[rows, chosen])
    best = None
    if meaning is Meaning.CLASSES:
        count = min(_TOP, size)
        sets = [np.sort(np.argsort(-a, axis=1, kind="stable")[:, :count]) for a in (expected, got)]
        best = int(((sets[0] == sets[1]).all(axis=1) & is_valid).sum())
    return Agreement(
        meaning=meaning,
        total=len(expected),
        same=int(is_same.sum()),
        ties=int(is_tie.sum()),
        best=best,
    )


def joined(found: Iterable[Agreement]) -> Agreement | None:
    """Return the agreement of several outputs as one; None without outputs."""
    parts = list(found)
    if not parts:
        return None
    cosines = [part.cosine for part in parts if part.cosine is not None]
    bests = [part.best for part in parts if part.best is not None]
    return Agreement(
        meaning=parts[0].meaning,
        total=sum(part.total for part in parts),
        same=sum(part.same for part in parts),
        ties=sum(part.ties for part in parts),
        best=sum(bests) if bests else None,
        cosine=float(np.min(cosines)) if cosines else None,
    )


def _cosines(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.asarray((a * b).sum(axis=1) / norms)
