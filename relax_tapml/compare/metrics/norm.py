"""Dot product and Euclidean norm."""

from __future__ import annotations

import math

import numpy as np

from relax_tapml.arrays import Array


def dot(left: Array, right: Array) -> float:
    """Return the dot product of two float64 vectors, in one thread; not finite if it overflows.

    ``np.dot`` calls OpenBLAS, which uses threads for long vectors. On a busy machine these wait for
    each other, and the same comparison takes ten times as long.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return float(np.einsum("i,i", left, right))


def norm(values: Array, squares: float | None = None) -> float:
    """Return ``sqrt(sum(values**2))`` of a float64 vector; infinite only if it is too large.

    ``squares`` is ``dot(values, values)``, if that is known.
    """
    if squares is None:
        squares = dot(values, values)
    if 1e-200 < squares < math.inf:
        return math.sqrt(squares)
    # The square is too small or too large, which is rare enough for another pass.
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(values, -exponent)  # exact: a power of two
    with np.errstate(over="ignore"):
        return float(np.ldexp(math.sqrt(dot(scaled, scaled)), exponent))
