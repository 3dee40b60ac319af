"""Orders in which right kernels add, and terms that show how their roundings differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from relax_tapml.arrays import Array

_WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)
_PERIODS = (2, 4, 8, 16, 32, 64, 128, 256)


def sums(terms: Array) -> Iterator[tuple[str, Array]]:
    """Yield the sums of each row in many orders, every partial sum rounded to the dtype.

    Parameters
    ----------
    terms
        Of shape (rows, n), of a float dtype of NumPy or ``ml_dtypes``.

    Yields
    ------
    tuple
        What the order is, and sums of shape (rows,).
    """
    columns = np.ascontiguousarray(terms.T)
    n = len(columns)
    shuffled = np.random.default_rng(n).permutation(n)
    yield "as they come", _in_turn(columns)
    yield "reversed", _in_turn(columns[::-1])
    yield "shuffled", _in_turn(columns[shuffled])
    yield "pairwise", _pairwise(columns)
    for width in _WIDTHS:
        if n < 2 * width:
            break
        parts = np.zeros((-(-n // width) * width, *columns.shape[1:]), columns.dtype)
        parts[:n] = columns
        lanes = parts.reshape(-1, width, *columns.shape[1:])
        blocks = lanes.swapaxes(0, 1)
        yield f"{width} lanes, in turn", _in_turn(_in_turn(lanes))
        yield f"{width} lanes, pairwise", _pairwise(_in_turn(lanes))
        yield f"blocks of {width}, in turn", _in_turn(_in_turn(blocks))
        yield f"blocks of {width}, pairwise", _pairwise(_in_turn(blocks))


def terms_of_kinds(rows: int, n: int, seed: int) -> Iterator[tuple[str, Array]]:
    """Yield float64 terms of shape (rows, n), scaled by the root of ``n``, and their kind."""
    rng = np.random.default_rng(seed)
    shape = (rows, n)
    here = np.arange(n)
    kinds: dict[str, Callable[[], Array]] = {
        "normal": lambda: rng.standard_normal(shape),
        "positive": lambda: rng.uniform(0, 1, shape),
        "equal": lambda: np.broadcast_to(rng.uniform(0.05, 1, (rows, 1)), shape),
        "nearly equal": lambda: rng.uniform(0.99, 1.01, shape),
        "half zeros": lambda: np.maximum(rng.standard_normal(shape), 0),
        "outliers": lambda: rng.standard_normal(shape) * (1 + 50 * (rng.random(shape) < 0.003)),
        "lognormal": lambda: rng.lognormal(0, 2, shape),
        "exponentials": lambda: np.exp(5 * rng.standard_normal(shape)),
        "ascending": lambda: np.sort(rng.standard_normal(shape), axis=1),
        "after a large one": lambda: np.where(here == 0, 1e3, 0.04) + np.zeros(shape),
        "cancelling": lambda: _cancelling(rng, shape),
    }
    for period in _PERIODS:
        signs = np.where(here % period < period // 2, 1.0, -1.0)
        noise = 0.01 * rng.standard_normal(shape)
        kinds[f"square wave of {period}"] = lambda s=signs, e=noise: s + e  # type: ignore[misc]
    for name, make in kinds.items():
        yield name, np.asarray(make() / np.sqrt(n))


def _cancelling(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    terms = rng.standard_normal(shape)
    half = shape[1] // 2
    terms[:, half : 2 * half] = -terms[:, :half] + 1e-3 * terms[:, half : 2 * half]
    return terms


def _in_turn(terms: Array) -> Array:
    """Add along the first axis, one after the other."""
    total = terms[0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for term in terms[1:]:
            total = total + term
    return np.asarray(total)


def _pairwise(terms: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        while len(terms) > 1:
            if len(terms) % 2:
                terms = np.concatenate([terms, np.zeros_like(terms[:1])])
            terms = terms[::2] + terms[1::2]
    return np.asarray(terms[0])
