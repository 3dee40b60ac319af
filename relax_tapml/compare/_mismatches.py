"""Which values differ by more than they may."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_tapml.arrays import Array, is_float
from relax_tapml.compare.metrics.block import Block
from relax_tapml.compare.metrics.ulp import max_ulp

BEYOND = "beyond the tolerance"
# All ways in which values differ, the most severe first.
_WAYS = (
    "NaN where the oracle is finite",
    "NaN where the oracle is infinite",
    "infinite where the oracle is finite",
    "infinite with the other sign",
    "infinite where the oracle is NaN",
    "finite where the oracle is NaN",
    "finite where the oracle is infinite",
    BEYOND,
)


@dataclass(kw_only=True)
class Finding:
    """How often values differ in one way, and where first, as a flat index."""

    count: int
    first: int
    allowed: float


class Mismatches:
    """Counts judged values that differ by more than they may.

    Finite values do if their distance is larger than what is allowed. A NaN matches a NaN only
    and an infinity one of its sign only; zeros match whatever their sign.

    Attributes
    ----------
    total
        How many values are judged.
    count
        How many of them differ.
    first
        The flat index of the first one, None without one.
    """

    def __init__(self) -> None:
        self.total = 0
        self.count = 0
        self.first: int | None = None
        self._findings: dict[str, Finding] = {}

    @property
    def most_severe(self) -> tuple[str, Finding] | None:
        """The most severe way in which values differ; None if none differs."""
        return next(((way, self._findings[way]) for way in _WAYS if way in self._findings), None)

    def add(self, block: Block) -> None:
        """Take a block into account."""
        judged = block.is_judged
        self.total += block.oracle.size if judged is None else int(np.count_nonzero(judged))
        if block.is_identical:
            return
        for way, mask in _masks(block):
            count = int(np.count_nonzero(mask))
            if not count:
                continue
            place = int(mask.argmax())
            self.count += count
            if self.first is None or block.start + place < self.first:
                self.first = block.start + place
            finding = self._findings.get(way)
            if finding is not None:
                finding.count += count
                continue
            self._findings[way] = Finding(
                count=count, first=block.start + place, allowed=float(block.allowed[place])
            )

    def join(self, later: Mismatches) -> None:
        """Take into account what another one has found in the blocks that follow."""
        self.total += later.total
        self.count += later.count
        if self.first is None:
            self.first = later.first
        for way, found in later._findings.items():
            if way in self._findings:
                self._findings[way].count += found.count
            else:
                self._findings[way] = found


def describe(mismatches: Mismatches, oracle: Array, actual: Array, differs: str) -> str:
    """Return the most severe way in which values differ as a sentence; empty if none differs.

    Parameters
    ----------
    mismatches
        Of these two arrays.
    oracle, actual
        The arrays that were compared.
    differs
        The words for values beyond the tolerance: ``differs by up to 2``.
    """
    if mismatches.most_severe is None:
        return ""
    way, finding = mismatches.most_severe
    first = mismatch_at(finding.first, oracle, actual)
    values = "values" if mismatches.total == oracle.size else "judged values"
    count = f"{finding.count} of {mismatches.total} {values}, first at {list(first.index)}"
    if way != BEYOND:
        return f"{way}, {count}"
    return f"{differs}, {count}: expected {first.expected:.6g}, got {first.actual:.6g}"


@dataclass(frozen=True, kw_only=True)
class FirstMismatch:
    """One value that differs, as Python numbers.

    Parameters
    ----------
    index
        Its position, one number for each dimension.
    expected, actual
        In the oracle and in the result.
    ulp
        How far apart they are in units in the last place; None unless both are finite floats.
    """

    index: tuple[int, ...]
    expected: float | int | bool
    actual: float | int | bool
    ulp: int | None


def mismatch_at(place: int, oracle: Array, actual: Array) -> FirstMismatch:
    """Return the mismatch at a flat index."""
    index = tuple(int(i) for i in np.unravel_index(place, oracle.shape))
    expected, got = oracle[index], actual[index]
    is_finite = is_float(expected.dtype) and np.isfinite(expected) and np.isfinite(got)
    return FirstMismatch(
        index=index,
        expected=_number(expected),
        actual=_number(got),
        ulp=max_ulp(np.asarray(expected), np.asarray(got)) if is_finite else None,
    )


def wrong_values(block: Block) -> Array:
    """Return which values of a block are judged and differ by more than they may."""
    wrong = np.zeros(block.oracle.size, dtype=bool)
    for _way, mask in _masks(block):
        wrong |= mask
    return wrong


def _masks(block: Block) -> Iterator[tuple[str, Array]]:
    """Yield the ways with disjoint masks of the values that differ so."""
    yield BEYOND, block.distance > block.allowed
    if block.is_finite:
        return
    expected, actual = block.wide_oracle, block.wide_actual
    is_nan, was_nan = np.isnan(actual), np.isnan(expected)
    is_inf, was_inf = np.isinf(actual), np.isinf(expected)
    was_finite = ~(was_nan | was_inf)
    masks = (
        is_nan & was_finite,
        is_nan & was_inf,
        is_inf & was_finite,
        is_inf & was_inf & (actual != expected),
        is_inf & was_nan,
        was_nan & ~is_nan & ~is_inf,
        was_inf & ~is_nan & ~is_inf,
    )
    for way, mask in zip(_WAYS, masks, strict=False):
        yield way, mask if block.is_judged is None else mask & block.is_judged


def _number(value: Any) -> float | int | bool:
    # ml_dtypes scalars have no item() that gives a Python number.
    if value.dtype.kind in "biuf":
        number: float | int | bool = value.item()
        return number
    return float(value) if is_float(value.dtype) else int(value)
