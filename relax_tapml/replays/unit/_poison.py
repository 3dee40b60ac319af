"""What memory holds before a kernel runs, which reveals what it never wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.targets.session.poison import Poison

GUARD_BYTES = 1 << 14
"""Bytes behind a result, and before it, that are checked after the call."""

_BLOCK_BYTES = 1 << 18  # Of an output that is compared with the pattern at once.


@dataclass(frozen=True, kw_only=True)
class PoisonedBlock:
    """Memory that holds the pattern, again and again, before a call: a tensor between guards.

    Parameters
    ----------
    output
        Which output of the call the tensor is; None for an intermediate result.
    tensor_bytes
        From the tensor's begin to the guard behind it.
    pattern_bytes
        How long the pattern is.
    before_bytes
        Bytes of the guard before the tensor; 0 where its kernels refuse a tensor with an offset.
    """

    output: int | None
    tensor_bytes: int
    pattern_bytes: int
    before_bytes: int = 0

    @property
    def behind(self) -> int:
        """Where the guard behind the tensor begins."""
        return self.before_bytes + self.tensor_bytes

    @property
    def guards(self) -> tuple[int, ...]:
        """Where guards of ``GUARD_BYTES`` begin."""
        return (0, self.behind) if self.before_bytes else (self.behind,)

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole block: the pattern as often as it takes."""
        return math.ceil((self.behind + GUARD_BYTES) / self.pattern_bytes) * self.pattern_bytes

    def overrun(self, place: int, guard: Array, poison: Poison) -> str:
        """Return a sentence about what was written in one of ``guards``; empty if nothing."""
        changed = np.flatnonzero(guard != self._held(place, GUARD_BYTES, poison))
        if not changed.size:
            return ""
        what = "an intermediate result" if self.output is None else f"its output {self.output}"
        if place < self.before_bytes:
            reach = self.before_bytes - int(changed[0])
            where, far = f"before the begin of {what}", f"the first one {reach} bytes before it"
        else:
            reach = int(changed[-1]) + 1
            where, far = f"behind the end of {what}", f"the last one {reach} bytes behind it"
        return f"it writes {where}: {changed.size} bytes differ there, {far}"

    def untouched(self, actual: Array, poison: Poison) -> Array | None:
        """Return which values of an output are still what the memory held; None if none is."""
        if not actual.size:
            return None
        values = np.ascontiguousarray(actual).reshape(-1).view(f"u{actual.dtype.itemsize}")
        step = _BLOCK_BYTES // values.itemsize
        found: Array | None = None
        for begin in range(0, values.size, step):
            part = values[begin : begin + step]
            place = self.before_bytes + begin * values.itemsize
            are_held = part == self._held(place, part.nbytes, poison).view(values.dtype)
            if are_held.any():
                if found is None:
                    found = np.zeros(values.size, np.bool_)
                found[begin : begin + step] = are_held
        return None if found is None else found.reshape(actual.shape)

    def _held(self, place: int, size_bytes: int, poison: Poison) -> Array:
        """Return what lay at a place before the call."""
        pattern = poison.pattern(self.pattern_bytes)
        pieces = []
        for begin in range(place, place + size_bytes, self.pattern_bytes):
            start = begin % self.pattern_bytes
            end = start + min(self.pattern_bytes, place + size_bytes - begin)
            pieces += [pattern[start:end], pattern[: max(0, end - self.pattern_bytes)]]
        return np.concatenate(pieces)


def pattern_sizes(blocks: Sequence[PoisonedBlock]) -> tuple[int, ...]:
    """Return the sizes of the patterns that fill some blocks, each once."""
    return tuple(sorted({block.pattern_bytes for block in blocks}))
