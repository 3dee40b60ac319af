"""Other whole numbers for a call: permuted, drawn again, wrapped around, or large."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.carve.probe._recorded_call import RecordedCall, draws
from relax_tapml.kernel_flow.interval import Interval

Changes = dict[int, Array]

# How many bits the magnitudes of large numbers have; the first that overflows nowhere.
_BITS = (40, 31, 24, 20, 16, 12)

# From and to which multiple of the extent of their axis indices are drawn: a kernel may clip or
# wrap those beyond both ends, or wrap those below zero.
_REACHES = ((-1, 2, "on both sides of"), (-1, 1, "below zero and in"), (0, 1, "in"))


def whole_numbers(recorded: RecordedCall, number: int) -> Iterator[tuple[Changes, str]]:
    """Yield other whole numbers for a call, the best first.

    The kernel need not stay inside its tensors with them. Where some decide
    how often a loop runs, all that decide where something is read stay, and so does all that a
    runtime gives to kernels of its own, a KV cache's page tables and lengths: they depend on each
    other. Where data decide what is written to, the numbers are permuted only, since two writes to
    one place depend on their order.

    Parameters
    ----------
    recorded
        The call.
    number
        0: indices are permuted, other numbers are large; 1: indices are drawn from all of an axis,
        negative ones and ones beyond its end first, other numbers from the recorded range.

    Yields
    ------
    Changes
        Arrays by position of the input.
    str
        What was done, in words.
    """
    roles = recorded.roles
    if recorded.call.is_runtime_callback:
        return
    movable = recorded.whole
    if not roles.loops.isdisjoint(movable):
        movable = [n for n in movable if n not in roles.places]
    values = [n for n in movable if n not in roles.places]
    others, text = _values(recorded, values, number)
    for indices, how in _indices(recorded, [n for n in movable if n in roles.places], number):
        yield {**others, **indices}, ", ".join(part for part in (how, text) if part)
    if others:
        yield others, text


def _indices(
    recorded: RecordedCall, places: list[int], number: int
) -> Iterator[tuple[Changes, str]]:
    if not places:
        return
    stored = [n for n in places if n in recorded.roles.stores]
    # The same order for all: together they decide where to write.
    permuted = {n: _permuted(recorded.inputs[n], number) for n in places}
    moved = {n: permuted[n] for n in stored}
    if len(stored) < len(places) and number == 1:
        for low, high, how in _REACHES:
            drawn = {n: _drawn_in(recorded, n, low, high) for n in places if n not in stored}
            yield {**moved, **drawn}, f"indices drawn {how} their axes"
        seen = {n: _drawn(recorded.inputs[n], number, n) for n in places if n not in stored}
        yield {**moved, **seen}, "indices drawn from the recorded range"
    yield permuted, "indices permuted"
    if stored:
        rows = {n: _permuted_rows(recorded.inputs[n], number) for n in stored}
        yield {**permuted, **rows}, "indices permuted by rows"


def _values(recorded: RecordedCall, places: list[int], number: int) -> tuple[Changes, str]:
    if not places:
        return {}, ""
    is_whole = all(array.dtype.kind in "iub" for array in recorded.outputs)
    if number == 0 and is_whole:
        for bits in _BITS:
            limits = {n: _limits(recorded.inputs[n], bits) for n in places}
            if recorded.holds(limits):
                made = {n: _large(recorded.inputs[n], limits[n], n) for n in places}
                return made, f"whole numbers of up to {bits} bits"
    made = {n: _drawn(recorded.inputs[n], number, n) for n in places}
    return made, "whole numbers drawn from the recorded range"


def _permuted(array: Array, number: int) -> Array:
    order = draws(number, array.size).permutation(array.size)
    if array.size > 1 and np.array_equal(order, np.arange(array.size)):
        order = order[::-1]
    return np.asarray(array.reshape(-1)[order].reshape(array.shape))


def _permuted_rows(array: Array, number: int) -> Array:
    return np.asarray(array[draws(number, array.shape[0]).permutation(array.shape[0])])


def _drawn(array: Array, number: int, place: int) -> Array:
    """Draw from the recorded range, which for numbers that are all alike reaches to 0 and 1."""
    low, high = int(array.min()), int(array.max())
    if low == high:
        low, high = min(low, 0), max(high, 1)
    drawn = _between(draws(number, place, 1), low, high, array.shape)
    return _with_ends(drawn, low, high).astype(array.dtype)


def _drawn_in(recorded: RecordedCall, place: int, low: int, high: int) -> Array:
    """Draw from ``low`` to ``high`` times the extent of the axis."""
    array = recorded.inputs[place]
    extent = min(recorded.roles.extents.get(place, {int(array.max()) + 1}))
    info = np.iinfo(array.dtype)
    first, last = max(low * extent, int(info.min)), min(high * extent - 1, int(info.max))
    if last < first:
        return array
    drawn = _between(draws(place, 2), first, last, array.shape)
    return _with_ends(drawn, first, last).astype(array.dtype)


def _between(generator: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> Array:
    return np.asarray(generator.integers(low, high, shape, np.int64, endpoint=True))


def _with_ends(drawn: Array, low: int, high: int) -> Array:
    """Put the ends of a range somewhere, and the last number below zero first."""
    ends = [number for number in (-1, low, high) if low <= number <= high]
    flat = drawn.reshape(-1).copy()
    some = draws(flat.size, 3).permutation(flat.size)[: len(ends)]
    flat[some] = ends[: len(some)]
    return np.asarray(flat.reshape(drawn.shape))


def _limits(array: Array, bits: int) -> Interval:
    info = np.iinfo(array.dtype)
    seen = Interval(int(array.min()), int(array.max()))
    low = 0 if info.min == 0 else max(-(2**bits) + 1, int(info.min) + 1)
    high = min(2**bits - 1, int(info.max))
    return Interval(min(low, seen.low), max(high, seen.high))


def _large(array: Array, limits: Interval, place: int) -> Array:
    """Return numbers of every magnitude within limits, some of them as recorded."""
    generator = draws(place, 4)
    bits = generator.integers(1, max(limits.high.bit_length(), 1), array.shape, endpoint=True)
    size = _between(generator, 0, 2**62, array.shape) % (np.int64(1) << bits)
    signed = np.where(generator.random(array.shape) < 0.5, size, -size) if limits.low < 0 else size
    clipped = np.clip(signed, limits.low, limits.high)
    mixed = np.where(generator.random(array.shape) < 0.25, array.astype(np.int64), clipped)
    return _with_ends(mixed, limits.low, limits.high).astype(array.dtype)
