"""What is special about the values of a tensor, in words."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array, finfo, is_float
from relax_tapml.carve.select.tensor_statistics import (
    LOWEST_RANGE,
    MASK,
    RANGES,
    TensorNumbers,
    tensor_numbers,
)

DIFFERING = "differing values"
_COUNTED = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorFacts:
    """Facts about one tensor.

    Parameters
    ----------
    branches
        What may send a kernel down another path, in words: NaN, infinities, masks and where they
        begin and end, rows of zeros, one value throughout.
    minor
        What seldom does: zeros, denormals, values of one sign.
    ranges
        Between which powers of two a float tensor has values, in words.
    low, high
        Least and greatest finite value, as float64; 0 if there is none.
    largest
        Greatest magnitude of the finite values that are no mask; 0 if there is none.
    smallest
        Least nonzero magnitude of them; infinite if there is none.
    rms
        Their root mean square; 0 if there is none.
    zeros
        How many values are zero.
    distinct
        How many different values an integer tensor has; 0 for floats, for masks of zeros and ones,
        and for tensors of more than 65536 values, where it is not counted.
    """

    branches: frozenset[str]
    minor: frozenset[str]
    ranges: frozenset[str]
    low: float
    high: float
    largest: float
    smallest: float
    rms: float
    zeros: int
    distinct: int


def tensor_facts(arrays: Sequence[Array]) -> list[TensorFacts]:
    """Return facts about arrays of one dtype and shape, which are looked at together.

    Parameters
    ----------
    arrays
        Of any dtype of NumPy or ``ml_dtypes``.
    """
    return [
        _describe(array, numbers)
        for array, numbers in zip(arrays, tensor_numbers(arrays), strict=True)
    ]


def _describe(array: Array, numbers: TensorNumbers) -> TensorFacts:
    has_finite = numbers.high >= numbers.low
    is_mask = bool(numbers.masked) or (
        numbers.size > 0 and numbers.zeros + numbers.ones == numbers.size
    )
    is_uniform = (
        numbers.low == numbers.high
        and numbers.size == numbers.ordinary + numbers.masked
        and not numbers.has_minus
    )
    branches = {
        "NaN": numbers.has_nan,
        "+infinity": numbers.has_plus,
        "-infinity": numbers.has_minus,
        "a row of zeros": numbers.has_zero_row,
        "a row of mask values": numbers.has_masked_row,
        "one value throughout": is_uniform,
        DIFFERING: not is_uniform and numbers.size > 0,
        **(_mask_branches(numbers) if is_mask else {}),
    }
    minor: dict[str, bool] = {}
    if is_float(array.dtype):
        tiny = float(finfo(array.dtype).smallest_normal)
        minor["denormals"] = numbers.smallest < tiny
        branches["no mask values"] = not is_mask
        branches["the greatest value of the dtype"] = numbers.largest >= float(
            finfo(array.dtype).max
        )
    if not is_mask:
        minor |= {
            "zeros": numbers.zeros > 0,
            "no value below zero": has_finite and numbers.low >= 0,
            "no value above zero": has_finite and numbers.high <= 0,
        }
    is_counted = not is_float(array.dtype) and not is_mask and array.size <= _COUNTED
    return TensorFacts(
        branches=frozenset(fact for fact, holds in branches.items() if holds),
        minor=frozenset(fact for fact, holds in minor.items() if holds),
        ranges=_range_names(numbers.ranges),
        low=numbers.low if has_finite else 0.0,
        high=numbers.high if has_finite else 0.0,
        largest=numbers.largest,
        smallest=numbers.smallest,
        rms=math.sqrt(numbers.squares / numbers.ordinary) if numbers.ordinary else 0.0,
        zeros=numbers.zeros,
        distinct=len(np.unique(array)) if is_counted else 0,
    )


def _mask_branches(numbers: TensorNumbers) -> dict[str, bool]:
    """Say where a mask is: floats with mask values, or any tensor of zeros and ones."""
    if numbers.masked:
        first, last, off = numbers.first <= MASK, numbers.last <= MASK, numbers.masked
    else:
        first, last, off = numbers.first == 0, numbers.last == 0, numbers.zeros
    return {
        "nothing masked": off == 0,
        "something masked": 0 < off < numbers.size,
        "everything masked": off == numbers.size,
        "its first element masked": first,
        "its last element masked": last,
    }


@functools.cache
def _range_names(ranges: int) -> frozenset[str]:
    return frozenset(_range_name(bit) for bit in range(2 * RANGES) if ranges >> bit & 1)


def _range_name(bit: int) -> str:
    least = 2.0 ** (LOWEST_RANGE + bit % RANGES)
    ends = (least, 2 * least) if bit < RANGES else (-2 * least, -least)
    return f"values from {ends[0]:g} to {ends[1]:g}"
