"""Which errors a tolerance detects, and which wrong results would pass.

A comparison that passes proves no more than its tolerance allows: a tolerance as large as the
output accepts zeros, too. So errors that kernels really have are injected into the oracle, to find
which of them the tolerance detects. If it does not even detect the gross ones, the comparison is
*blunt*, and does not justify a ``pass``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from relax_tapml.arrays import Array, finfo, is_float
from relax_tapml.compare._row_halves import RowHalves
from relax_tapml.compare.metrics.block import Block, blocks
from relax_tapml.compare.metrics.norm import dot
from relax_tapml.compare.tolerances.tolerance import Tolerance

# What a mask adds, as in `carve.select.tensor_statistics`; and how far above other values it is.
_MASK = -1e4
_GAP = 1e3
# Dtypes with a larger eps cannot hold the scaled value: it rounds to the value or its neighbour.
_TENTH_EPS, _HUNDREDTH_EPS = 2.0**-5, 2.0**-7


class InjectedError(StrEnum):
    """A wrong result that a kernel may return instead of the oracle."""

    ZEROS = "zeros"
    NEGATED = "negated"
    TENTH = "scaled by 1.1"
    HUNDREDTH = "scaled by 1.01"
    HALF_ROW = "half of a row missing"


@dataclass(frozen=True, kw_only=True)
class Power:
    """Which injected errors a tolerance detects in one output.

    Only judged values count. Mask values (-1e4 and below, 1000 times above the others) do not count
    beside others: they would show every error of the whole output, and hide that no error of the
    others is detected.

    Parameters
    ----------
    share
        Root mean square of the allowed differences, as a share of that of the output: 0 where
        values must be equal, infinite where the output is zero and its tolerance is not, NaN where
        the output is NaN.
    least
        The smallest relative change of all values at once that is detected: 0 if every change is,
        infinite if none is.
    sees
        The injected errors that are mismatches. ``HALF_ROW``: zeros in the first or in the second
        half of any row that has values there; a row is the last axis.
    is_blunt
        Whether zeros, the output negated, or the output scaled by 1.1 would pass. Scaling is not
        tried for dtypes and whole numbers that cannot hold the scaled result.
    """

    share: float
    least: float
    sees: tuple[InjectedError, ...]
    is_blunt: bool

    @property
    def terms(self) -> int | None:
        """The longest reduction of equal terms in which one missing term is detected.

        None if it may have any length. One of n equal terms is 1/n of the result.
        """
        if self.least == 0.0:
            return None
        return max(0, math.ceil(min(1.0 / self.least, 2.0**53)) - 1)

    @property
    def description(self) -> str:
        """A clause with the error that a blunt tolerance accepts; empty for a sharp one."""
        if not self.is_blunt:
            return ""
        if InjectedError.ZEROS not in self.sees:
            passes = "zeros"
        elif InjectedError.NEGATED not in self.sees:
            passes = "the output negated"
        else:
            passes = "the output scaled by 1.1"
        if math.isnan(self.share):
            return "every judged value is NaN"
        if math.isinf(self.share):
            return f"{passes} would pass"
        return f"{passes} would pass, with a tolerance of {share_text(self.share)} of its RMS"


EXACT = Power(share=0.0, least=0.0, sees=tuple(InjectedError), is_blunt=False)
"""Every deviation is detected."""

_NONE = Power(share=math.inf, least=math.inf, sees=(), is_blunt=True)
_NAN = Power(share=math.nan, least=math.inf, sees=(), is_blunt=True)


def power_of(oracle: Array, tolerance: Tolerance) -> Power | None:
    """Return the errors that a tolerance detects in an output; None where no value is judged.

    Parameters
    ----------
    oracle
        Of any float, integer or bool type.
    tolerance
        Of the results.

    Raises
    ------
    ValueError
        The tolerance is for another shape.
    """
    if oracle.size == 0:
        return None
    meter = PowerMeter(oracle, tolerance)
    for block in blocks(oracle, oracle, tolerance):
        meter.add(block)
    return meter.value


def is_above_tolerance(oracle: Array, tolerance: Tolerance) -> bool:
    """Return whether most of an output's norm is in values that exceed their tolerance.

    The sign of the other values is not certain, as of the rounding errors in ``x - x``.
    """
    total = certain = 0.0
    for block in blocks(oracle, oracle, tolerance):
        signal = block.signal
        total += dot(signal, signal)
        large = signal[np.abs(signal) > block.allowed]
        certain += dot(large, large)
    return certain > total / 2


def share_text(share: float) -> str:
    """Write a share of the RMS: ``315 %``, ``0.02 %``."""
    return f"{100 * share:.3g} %"


class PowerMeter:
    """Collects the data for a ``Power``, block after block.

    Parameters
    ----------
    oracle, tolerance
        Of the whole output.
    """

    def __init__(self, oracle: Array, tolerance: Tolerance) -> None:
        self._dtype = oracle.dtype
        self._tiny = _tiny(oracle.dtype)
        self._is_exact = tolerance.is_exact
        self._is_judged = self._is_number = False
        self._values, self._masks = _Sums(), _Sums()
        self._halves = RowHalves(oracle.shape)

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if self._is_exact:
            self._is_judged = self._is_number = True
            return
        judged = block.is_judged
        if judged is not None and not judged.any():
            self._halves.add(block.start, np.zeros(block.oracle.size, np.uint8))
            return
        self._is_judged = True
        self._is_number |= block.is_finite or _has_number(block)
        allowed = block.allowed if judged is None else np.where(judged, block.allowed, 0.0)
        size = np.abs(block.signal)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = size / allowed
            if ratio.min() > 1.0:  # and none is NaN
                self._halves.add_seen(block.start, size.size)
            else:
                is_there, is_seen = size > self._tiny, size > allowed
                scores = np.maximum(is_there.view(np.uint8), is_seen * np.uint8(2))
                self._halves.add(block.start, scores)
        if block.signal.min() > _MASK:
            self._values.add(size, allowed, ratio, self._tiny, squares=block.squares)
            return
        is_mask = block.signal <= _MASK
        for sums, where in ((self._masks, is_mask), (self._values, ~is_mask)):
            sums.add(size[where], allowed[where], ratio[where], self._tiny)

    def join(self, later: PowerMeter) -> None:
        """Take over the values that follow, of which the first is the first of a row."""
        self._is_judged |= later._is_judged
        self._is_number |= later._is_number
        self._values = self._values.joined(later._values)
        self._masks = self._masks.joined(later._masks)
        self._halves.join(later._halves)

    @property
    def value(self) -> Power | None:
        """The power in all blocks so far; None where no value is judged."""
        if not self._is_judged:
            return None
        if not self._is_number:
            return _NAN  # A kernel that returns NaN for any reason passes.
        if self._is_exact:
            return EXACT
        sums = self._sums()
        if sums.allowed_squares == 0.0:
            return EXACT
        if sums.largest <= self._tiny:
            # No injected error changes zeros. Another value is detected if none is allowed.
            return EXACT if sums.most <= self._tiny else _NONE
        return self._power(sums)

    def _power(self, sums: _Sums) -> Power:
        has_tenth, has_hundredth = _holds(self._dtype, sums.largest)
        is_seen = {
            InjectedError.ZEROS: sums.ratio > 1.0,
            InjectedError.NEGATED: sums.ratio > 0.5,
            InjectedError.TENTH: has_tenth and sums.ratio > 10.0,
            InjectedError.HUNDREDTH: has_hundredth and sums.ratio > 100.0,
            InjectedError.HALF_ROW: sums.ratio > 1.0 and self._halves.are_seen,
        }
        with np.errstate(divide="ignore"):
            least = float(np.divide(1.0, sums.ratio))
        return Power(
            share=sums.share,
            least=least,
            sees=tuple(error for error, is_one in is_seen.items() if is_one),
            is_blunt=not (
                is_seen[InjectedError.ZEROS] and (is_seen[InjectedError.TENTH] or not has_tenth)
            ),
        )

    def _sums(self) -> _Sums:
        values, masks = self._values, self._masks
        has_others = values.largest > self._tiny
        if has_others and masks.rms > _GAP * values.rms:
            return values
        return values.joined(masks)


@dataclass(kw_only=True)
class _Sums:
    """Sums over some values: their sizes, their tolerances, and the largest ratio of both.

    ``most`` is the largest tolerance in blocks whose values are all negligible.
    """

    count: int = 0
    squares: float = 0.0
    allowed_squares: float = 0.0
    largest: float = 0.0
    most: float = 0.0
    ratio: float = 0.0

    def add(
        self, size: Array, allowed: Array, ratio: Array, tiny: float, squares: float | None = None
    ) -> None:
        if not size.size:
            return
        self.count += size.size
        self.squares += dot(size, size) if squares is None else squares
        self.allowed_squares += dot(allowed, allowed)
        largest, highest = float(size.max()), float(ratio.max())
        if largest <= tiny:
            self.most = max(self.most, float(allowed.max()))
        if math.isnan(highest):  # 0 of 0
            highest = float(np.fmax.reduce(ratio))
        self.largest = max(self.largest, largest)
        self.ratio = max(self.ratio, 0.0 if math.isnan(highest) else highest)

    def joined(self, other: _Sums) -> _Sums:
        return _Sums(
            count=self.count + other.count,
            squares=self.squares + other.squares,
            allowed_squares=self.allowed_squares + other.allowed_squares,
            largest=max(self.largest, other.largest),
            most=max(self.most, other.most),
            ratio=max(self.ratio, other.ratio),
        )

    @property
    def rms(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    @property
    def share(self) -> float:
        if 0.0 < self.squares < math.inf and self.allowed_squares < math.inf:
            return math.sqrt(self.allowed_squares) / math.sqrt(self.squares)
        # A square is out of range: the share of the value with the largest ratio instead.
        return 1.0 / self.ratio if self.ratio > 0.0 else math.inf


def _tiny(dtype: np.dtype[Any]) -> float:
    """Return the magnitude up to which a value is negligible, because a device may flush it."""
    if not is_float(dtype):
        return 0.0
    info = finfo(dtype)
    is_wide = float(info.eps) < 2.0**-6
    # Bounds are rounded up to 16 bits.
    return 1.01 * float(info.smallest_normal if is_wide else info.smallest_subnormal)


def _holds(dtype: np.dtype[Any], largest: float) -> tuple[bool, bool]:
    """Return whether a dtype can hold the output scaled by 1.1, and by 1.01."""
    if is_float(dtype):
        eps = float(finfo(dtype).eps)
        return eps <= _TENTH_EPS, eps <= _HUNDREDTH_EPS
    return largest >= 10.0, largest >= 100.0


def _has_number(block: Block) -> bool:
    """Return whether a judged value is not NaN."""
    is_number = ~np.isnan(block.wide_oracle)
    return bool((is_number if block.is_judged is None else is_number & block.is_judged).any())
